"""torchattacks' calls, backed by this project's attack; torchattacks itself is not needed.

Use ``from ro_fast.integrations.torchattacks import PGD`` for ``from torchattacks import PGD``. There are PGD and PGDL2, their
targeted modes, ``set_normalization_used``, ``set_model_training_mode`` for the whole model and ``set_device``. There is no
``save`` or ``load``, no combination of attacks (MultiAttack), and no ``eps_for_division``: a sample whose gradient is 0 takes
no step, and one whose gradient has an L2 norm not far above 1e-10 a step of full length, whereas torchattacks' is shorter.
Mode changes print nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ro_fast import attacks
from ro_fast.attacks.borrow import borrowed
from ro_fast.errors import InputError
from ro_fast.integrations.adapt import towards_target

TargetMap = Callable[[Tensor, Tensor], Tensor]


class _Attack:
    _norm: str

    def __init__(self, model: nn.Module, eps: float, alpha: float, steps: int, random_start: bool) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"{type(self).__name__}: model is {type(model).__name__}; a torch.nn.Module is needed")
        self.model = model
        self.eps, self.alpha, self.steps, self.random_start = eps, alpha, steps, random_start
        first = next(model.parameters(), None)
        self.device = None if first is None else first.device
        self.normalization_used: dict[str, Tensor] | None = None
        self._targets: TargetMap | None = None
        self._bn = "eval"
        self._attack()  # reports an invalid budget where it is given

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Attacks ``images`` [N, ...], normalised if ``set_normalization_used`` says so, at ``labels`` int64 [N]."""
        x, y = images.detach().to(self.device), labels.detach().to(self.device)
        if self.normalization_used is None:
            return self._attack()(self.model, x, y if self._targets is None else self._targets(x, y))
        mean, std = (value.to(x) for value in self.normalization_used.values())
        x = x * std + mean
        return (self._attack()(self._of_images, x, y if self._targets is None else self._targets(x, y)) - mean) / std

    def _attack(self) -> attacks.PGD:
        loss = "ce" if self._targets is None else towards_target
        try:
            return attacks.PGD(
                self.eps, self.alpha, self.steps, self._norm, random_start=self.random_start, loss=loss, bn=self._bn
            )
        except ValueError as error:
            raise InputError(str(error)) from error

    def set_device(self, device: torch.device | str) -> None:
        """The device to which inputs are moved."""
        self.device = torch.device(device)

    def set_normalization_used(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Declares that images are passed and returned as ``(x − mean) / std`` per channel; the attack works in [0, 1]."""
        self.normalization_used = {
            name: torch.as_tensor(values, dtype=torch.float64).view(-1, 1, 1) for name, values in (("mean", mean), ("std", std))
        }
        self._of_images = attacks.normalised(self.model, mean, std)

    def set_model_training_mode(
        self, model_training: bool = False, batchnorm_training: bool = False, dropout_training: bool = False
    ) -> None:
        """The mode in which the model is attacked: eval, or train with BatchNorm and dropout.

        Raises:
            InputError: if they differ from each other.
        """
        modes = {model_training, batchnorm_training, dropout_training}
        if len(modes) > 1:
            raise InputError("set_model_training_mode: all three should be True or all False; mixtures are not supported")
        self._bn = "train" if model_training else "eval"

    def set_mode_default(self) -> None:
        """Away from the labels."""
        self._targets = None

    def set_mode_targeted_by_label(self, quiet: bool = True) -> None:
        """Towards the labels passed."""
        self._targets = lambda x, y: y

    def set_mode_targeted_by_function(self, target_map_function: TargetMap, quiet: bool = True) -> None:
        """Towards ``target_map_function(images, labels)``."""
        self._targets = target_map_function

    def set_mode_targeted_random(self, quiet: bool = True) -> None:
        """Towards a class drawn uniformly from the others."""

        def other(x: Tensor, y: Tensor) -> Tensor:
            return (y + torch.randint_like(y, 1, self._logits(x).shape[1])) % self._logits(x[:1]).shape[1]

        self._targets = other

    def set_mode_targeted_least_likely(self, kth_min: int = 1, quiet: bool = True) -> None:
        """Towards the other class with the ``kth_min``-smallest logit."""
        if kth_min < 1:
            raise InputError(f"set_mode_targeted_least_likely: kth_min = {kth_min} should be at least 1")

        def least(x: Tensor, y: Tensor) -> Tensor:
            others = self._logits(x).scatter(1, y[:, None], torch.inf)
            return others.kthvalue(kth_min, 1).indices

        self._targets = least

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        """In eval mode, for images in [0, 1]."""
        if self.normalization_used is not None:
            mean, std = (value.to(x) for value in self.normalization_used.values())
            x = (x - mean) / std
        with borrowed(self.model, "eval"):
            return self.model(x)


class PGD(_Attack):
    """torchattacks.PGD: L∞. The same adversarial images up to rounding if ``random_start`` is off.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    >>> atk = PGD(model, eps=8/255, alpha=2/255, steps=10, random_start=True)
    >>> adv_images = atk(images, labels)
    >>> bool((adv_images - images).abs().max() <= 8/255 + 1e-6)
    True
    """

    _norm = "linf"

    def __init__(
        self, model: nn.Module, eps: float = 8 / 255, alpha: float = 2 / 255, steps: int = 10, random_start: bool = True
    ) -> None:
        super().__init__(model, eps, alpha, steps, random_start)


class PGDL2(_Attack):
    """torchattacks.PGDL2: L2. A random start lies on the ball's surface, whereas torchattacks draws its radius uniformly."""

    _norm = "l2"

    def __init__(
        self, model: nn.Module, eps: float = 1.0, alpha: float = 0.2, steps: int = 10, random_start: bool = True
    ) -> None:
        super().__init__(model, eps, alpha, steps, random_start)
