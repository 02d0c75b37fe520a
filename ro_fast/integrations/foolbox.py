"""Attacks for foolbox: ``LinfPGD`` and ``L2PGD`` with the arguments of foolbox's own, on a ``foolbox.PyTorchModel``."""

from __future__ import annotations

from typing import Any

try:
    import eagerpy as ep
    from foolbox.attacks.base import FixedEpsilonAttack, get_criterion, raise_if_kwargs, verify_input_bounds
    from foolbox.criteria import Misclassification, TargetedMisclassification
    from foolbox.distances import l2, linf
except ImportError as error:
    raise ImportError("ro_fast.integrations.foolbox needs foolbox: pip install foolbox") from error
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.errors import InputError
from ro_fast.integrations.adapt import in_unit_range, towards_target


class _Model(nn.Module):
    """A foolbox model with its preprocessing. The network itself is not accessible: it is attacked in its current mode."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._called = model

    def forward(self, x: Tensor) -> Tensor:
        return self._called(x)


class _PGD(FixedEpsilonAttack):
    _norm: str

    def __init__(
        self,
        *,
        rel_stepsize: float,
        abs_stepsize: float | None = None,
        steps: int,
        random_start: bool = True,
        restarts: int = 1,
        loss: str = "ce",
    ) -> None:
        self.rel_stepsize, self.abs_stepsize, self.steps = rel_stepsize, abs_stepsize, steps
        self.random_start, self.restarts, self.loss = random_start, restarts, loss
        self._attack(1.0, 1.0, False)  # reports an invalid option where it is given

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Attacks ``inputs`` within ``epsilon``, in the model's bounds."""
        raise_if_kwargs(kwargs)
        x, restore = ep.astensor_(inputs)
        if not isinstance(x.raw, Tensor):
            given = type(x.raw).__name__
            raise InputError(f"{type(self).__name__}: inputs are {given}; torch tensors and a PyTorchModel are needed")
        verify_input_bounds(x, model)
        criterion = get_criterion(criterion)
        if not isinstance(criterion, (Misclassification, TargetedMisclassification)):
            raise InputError(f"{type(self).__name__}: a criterion of {type(criterion).__name__} is not supported")
        targeted = isinstance(criterion, TargetedMisclassification)
        labels = criterion.target_classes if targeted else criterion.labels
        lo, hi = (float(bound) for bound in model.bounds)
        step = self.rel_stepsize * epsilon if self.abs_stepsize is None else self.abs_stepsize
        attack = self._attack(epsilon / (hi - lo), step / (hi - lo), targeted)
        unit = ((x.raw - lo) / (hi - lo)).clamp(0, 1)
        found = attack(in_unit_range(_Model(model), lo, hi), unit, labels.raw.long())
        return restore(ep.astensor((lo + (hi - lo) * found).clamp(lo, hi)))

    def _attack(self, eps: float, alpha: float, targeted: bool) -> PGD:
        options: dict[str, Any] = {"norm": self._norm, "restarts": self.restarts, "random_start": self.random_start, "bn": "keep"}
        try:
            return PGD(eps, alpha, self.steps, loss=towards_target if targeted else self.loss, **options)
        except ValueError as error:
            raise InputError(str(error)) from error


class LinfPGD(_PGD):
    """foolbox.attacks.LinfPGD with restarts and other losses: "ce", "margin", "dlr".

    >>> import foolbox, torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    >>> fmodel = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    >>> images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    >>> raw, clipped, is_adv = LinfPGD(steps=10)(fmodel, images, labels, epsilons=[0.0, 0.03, 0.1])
    >>> is_adv.shape
    torch.Size([3, 5])
    """

    distance = linf
    _norm = "linf"

    def __init__(self, *, rel_stepsize: float = 0.01 / 0.3, steps: int = 40, **options: Any) -> None:
        super().__init__(rel_stepsize=rel_stepsize, steps=steps, **options)


class L2PGD(_PGD):
    """foolbox.attacks.L2PGD with restarts and other losses; a random start lies on the ball's surface."""

    distance = l2
    _norm = "l2"

    def __init__(self, *, rel_stepsize: float = 0.025, steps: int = 50, **options: Any) -> None:
        super().__init__(rel_stepsize=rel_stepsize, steps=steps, **options)
