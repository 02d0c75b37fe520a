"""One training step as a method sees it: the batch, the attack, the forward, and what the step's work came to."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.config import SmallLossConfig
from ro_fast.ops import weighted_cross_entropy


@dataclass
class Work:
    """Samples that went through the network, by kind of pass; a pass costs 1, 2 or 3 forwards."""

    forward: int = 0  # forward only: F
    input_grad: int = 0  # forward and input gradient: 2F
    full: int = 0  # forward, input and weight gradients: 3F

    @property
    def forwards(self) -> int:
        """The work in units of one sample's forward."""
        return self.forward + 2 * self.input_grad + 3 * self.full


@dataclass(frozen=True)
class Decision:
    """The model's answer to the adversarial batch of the plain attack, by which methods decide and the trainer logs."""

    logits: Tensor  # [N, C]; with a graph only where the step trains on them
    loss: Tensor  # [N] adversarial cross-entropy, detached
    small: Tensor  # bool [N]


class Step:
    """What a method may ask for in one training step; the adversarial batch and the decision are made once."""

    def __init__(
        self,
        model: nn.Module,
        attack: PGD,
        x: Tensor,  # [N, ...] natural inputs in [0, 1], augmented
        y: Tensor,  # int64 [N]
        small_loss: SmallLossConfig,
        work: Work,
    ) -> None:
        # The forward after the attack's last step sees what the training forward sees: one of them serves for both.
        self._joins = attack.final_forward and attack.restarts == 1 and attack.bn == "train" and _have_momentum(model)
        self.model, self.x, self.y = model, x, y
        self.attack = dataclasses.replace(attack, final_forward=False) if self._joins else attack
        self._small_loss, self._work = small_loss, work
        self._x_adv: Tensor | None = None
        self.decision: Decision | None = None

    @property
    def x_adv(self) -> Tensor:
        """The adversarial batch [N, ...] of the plain attack."""
        if self._x_adv is None:
            self._x_adv = self.attacked(self.x, self.y)
        return self._x_adv

    def attacked(self, x: Tensor, y: Tensor, eps: float | None = None) -> Tensor:
        """Adversarial inputs for any samples, at the attack's radius or at ``eps``."""
        self._work.input_grad += len(x) * self.attack.steps * self.attack.restarts
        if self.attack.restarts > 1 or self.attack.final_forward:
            self._work.forward += len(x) * self.attack.restarts
        return self.attack(self.model, x, y, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C] to train on."""
        self._work.full += len(x)
        return self.model(x)

    def decide(self, trains: bool) -> Decision:
        """Looks at the adversarial batch; ``trains`` says whether the step's loss is made of these logits.

        Where it is not, the forward neither builds a graph nor moves BatchNorm's running statistics: it sees the same
        batch statistics, and leaves no trace.
        """
        x_adv = self.x_adv
        if trains:
            with _statistics_moved_twice(self.model) if self._joins else contextlib.nullcontext():
                logits = self.forward(x_adv)
        else:
            self._work.forward += len(self.x)
            with torch.no_grad(), contextlib.nullcontext() if self._joins else _running_statistics_held(self.model):
                logits = self.model(x_adv)
        loss = weighted_cross_entropy(logits.detach(), self.y, reduction="none")
        self.decision = Decision(logits, loss, small_loss_mask(loss, logits.shape[1], self._small_loss))
        return self.decision


def small_loss_mask(loss: Tensor, num_classes: int, small_loss: SmallLossConfig) -> Tensor:
    """Which samples have a small adversarial loss: bool [N] from loss [N].

    "loss": ``ℓ < value`` (the paper's 1.5); "ln_c": ``ℓ < value·ln C``; "quantile": ``ℓ`` at most the batch's ``value``-quantile.
    """
    if small_loss.unit == "quantile":
        return loss <= torch.quantile(loss, small_loss.value)
    return loss < small_loss.value * (math.log(num_classes) if small_loss.unit == "ln_c" else 1.0)


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


def _have_momentum(model: nn.Module) -> bool:
    return all(m.momentum is not None for m in _norms(model))


@contextlib.contextmanager
def _running_statistics_held(model: nn.Module) -> Iterator[None]:
    norms = _norms(model)
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


@contextlib.contextmanager
def _statistics_moved_twice(model: nn.Module) -> Iterator[None]:
    """One forward moves the running statistics r as two do: r ← (1 − m)²·r + (1 − (1 − m)²)·batch."""
    norms = _norms(model)
    momenta = [m.momentum for m in norms]
    for m in norms:
        assert m.momentum is not None and m.num_batches_tracked is not None
        m.momentum = 1 - (1 - m.momentum) ** 2
        m.num_batches_tracked.add_(1)
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
