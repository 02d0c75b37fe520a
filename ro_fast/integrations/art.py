"""An evasion attack for ART: ``ProjectedGradientDescent`` with the arguments of ART's own, on a ``PyTorchClassifier``."""

from __future__ import annotations

from typing import Any

try:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier
except ImportError as error:
    raise ImportError("ro_fast.integrations.art needs ART: pip install adversarial-robustness-toolbox") from error
import numpy as np
import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.errors import InputError
from ro_fast.integrations.adapt import in_unit_range, towards_target

_NORMS = {np.inf: "linf", "inf": "linf", 2: "l2"}


class _Prepared(nn.Module):
    """The classifier's network behind its preprocessing."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.network = classifier.model
        self._prepare = classifier._apply_preprocessing

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self._prepare(x, None, fit=False, no_grad=False)[0])


class ProjectedGradientDescent(EvasionAttack):
    """ART's ProjectedGradientDescent: numpy in, numpy out, in the classifier's ``clip_values`` and through its preprocessing.

    The loss is cross-entropy, or "margin" or "dlr", whatever loss the classifier trains with. Of several random starts, the
    result of greatest loss is kept; with ``num_random_init=0`` the attack starts at the input. Each L2 step projects to the ball,
    then clips to the range; ART clips first. ``decay``, ``random_eps``, ``mask`` and per-value budgets are not supported.

    Raises:
        InputError: on an unsupported budget, norm or classifier, or inputs outside ``clip_values``.

    >>> from art.estimators.classification import PyTorchClassifier
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1), device_type="cpu")
    >>> attack = ProjectedGradientDescent(classifier, eps=8/255, eps_step=2/255, max_iter=10)
    >>> x = np.random.default_rng(0).random((5, 3, 2, 2), dtype=np.float32)
    >>> x_adv = attack.generate(x, y=np.array([0, 1, 2, 0, 1]))
    >>> bool(np.abs(x_adv - x).max() <= 8/255 + 1e-6)
    True
    """

    attack_params = [  # noqa: RUF012  ART's own way to name them
        "norm", "eps", "eps_step", "max_iter", "targeted", "num_random_init", "batch_size", "loss",
    ]  # fmt: skip
    _estimator_requirements = (PyTorchClassifier,)

    def __init__(
        self,
        estimator: Any,
        norm: float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.1,
        max_iter: int = 100,
        targeted: bool = False,
        num_random_init: int = 0,
        batch_size: int = 32,
        loss: str = "ce",
    ) -> None:
        super().__init__(estimator=estimator)
        self.norm, self.eps, self.eps_step, self.max_iter = norm, eps, eps_step, max_iter
        self.num_random_init, self.batch_size, self.loss = num_random_init, batch_size, loss
        self._targeted = targeted
        self._check_params()

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Attacks ``x`` [N, ...] and returns float32 [N, ...].

        Args:
            x: inputs in the classifier's ``clip_values``.
            y: classes [N] or one-hot [N, C], the targets of a targeted attack; None: the classifier's predictions.
        """
        given = [name for name, value in kwargs.items() if value is not None]
        if given:
            raise InputError(f"ProjectedGradientDescent: generate({given[0]}=…) is not supported")
        if y is None and self.targeted:
            raise InputError("ProjectedGradientDescent: a targeted attack needs the target classes, y")
        lo, hi = self._range()
        x = np.asarray(x, dtype=np.float32)
        if len(x) and not (x.min() >= lo and x.max() <= hi):
            raise InputError(f"ProjectedGradientDescent: x spans [{x.min():g}, {x.max():g}], clip_values are [{lo:g}, {hi:g}]")
        labels = self.estimator.predict(x, batch_size=self.batch_size) if y is None else np.asarray(y)
        labels = labels.argmax(1) if labels.ndim > 1 and labels.shape[1] > 1 else labels.reshape(-1)
        prepared = self.estimator.preprocessing_operations
        model = in_unit_range(_Prepared(self.estimator) if prepared else self.estimator.model, lo, hi)
        attack, x_adv = self._attack(), x.copy()
        for start in range(0, len(x), self.batch_size):
            part = slice(start, start + self.batch_size)
            unit = ((torch.from_numpy(x[part]).to(self.estimator.device) - lo) / (hi - lo)).clamp(0, 1)
            found = attack(model, unit, torch.as_tensor(labels[part], dtype=torch.int64, device=unit.device))
            x_adv[part] = (lo + (hi - lo) * found).clamp(lo, hi).cpu().numpy()
        return x_adv

    def _range(self) -> tuple[float, float]:
        clip = self.estimator.clip_values
        if clip is None or any(np.size(bound) != 1 for bound in clip):
            raise InputError(f"ProjectedGradientDescent: the classifier's clip_values are {clip}; two numbers are needed")
        return float(clip[0]), float(clip[1])

    def _attack(self) -> PGD:
        lo, hi = self._range()
        starts: dict[str, Any] = {"restarts": max(1, self.num_random_init), "random_start": self.num_random_init > 0}
        eps, alpha, loss = self.eps / (hi - lo), self.eps_step / (hi - lo), towards_target if self.targeted else self.loss
        try:
            return PGD(eps, alpha, self.max_iter, _NORMS[self.norm], loss=loss, **starts)
        except ValueError as error:
            raise InputError(f"in units of the classifier's range [{lo:g}, {hi:g}], {error}") from error

    def _check_params(self) -> None:
        if self.norm not in _NORMS:
            raise InputError(f"ProjectedGradientDescent: norm {self.norm} is unknown; available: inf, 2")
        for name in ("eps", "eps_step"):
            if np.ndim(getattr(self, name)) != 0:
                raise InputError(f"ProjectedGradientDescent: {name} has one value per input; only a single number is supported")
        for operation in self.estimator.preprocessing_operations:
            if not self.estimator.all_framework_preprocessing:
                name = type(operation).__name__
                raise InputError(f"ProjectedGradientDescent: no gradient flows through {name}; use its torch form")
        if self.batch_size < 1:
            raise InputError(f"ProjectedGradientDescent: batch_size = {self.batch_size} should be at least 1")
        self._attack()
