"""What adversarial training minimises: the loss the attack climbs and the loss of the step. Orthogonal to the methods.

"trades" and "mart" are as the papers state them; "trades2019" and "mart2020" also follow the released code where it differs:
the attack starts at normal noise of 0.001 and is not clipped there, the natural forward precedes the adversarial one, TRADES
runs it once more afterwards, and MART's logarithms have small constants. BatchNorm's running statistics then change as they
did there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.borrow import borrowed
from ro_fast.errors import InputError
from ro_fast.ops import boosted_cross_entropy, weighted_cross_entropy, weighted_kl

OPTIONS = ("objective", "beta")  # for every method


@dataclass(frozen=True)
class Objective:
    """One objective; ``forwards`` is the number a step trains on, ``attack_forwards`` the number its attack adds."""

    name: str  # "at", "trades" or "mart"
    forwards: int
    beta: float = 6.0
    attack_forwards: int = 0
    released: bool = False  # step for step as in the released code

    @property
    def repeats_natural(self) -> bool:
        """Whether the natural forward runs twice in a step; the outputs are the same, but BatchNorm is updated once more."""
        return self.released and self.name == "trades"

    def attack(
        self,
        attack: PGD,
        model: nn.Module,
        x: Tensor,  # [N, ...]
        y: Tensor,  # int64 [N]
        eps: float | None = None,
    ) -> Tensor:
        """The adversarial inputs required by the objective.

        "at" and "mart" climb the cross-entropy. "trades" climbs ``KL(f(x) ‖ f(x'))`` from the natural output, both in the
        attack's mode; it needs a random start, since that divergence is flat at x.
        """
        if self.released:
            attack = dataclasses.replace(attack, random_start=_RELEASED_START)
        if self.name != "trades":
            return attack(model, x, y, eps=eps)
        with torch.no_grad(), borrowed(model, attack.bn):
            natural = model(x)

        # The natural output is passed as the target: the loss is then the same function for every batch, which engines recognise.
        return dataclasses.replace(attack, loss=_divergence)(model, x, natural, eps=eps)

    def loss(
        self,
        logits: Tensor,  # [N, C] of adversarial inputs
        natural: Tensor | None,  # [N, C] of natural ones, if the objective needs them
        y: Tensor,  # int64 [N] or probabilities [N, C]
        weight: Tensor | None = None,  # [N]
        reduction: str = "mean",
    ) -> Tensor:
        """ "at": ``CE(f(x'), y)`` (Madry et al. 2018). "trades": ``CE(f(x), y) + β·KL(f(x) ‖ f(x'))`` (Zhang et al. 2019, eq. 5).
        "mart": ``BCE(f(x'), y) + β·KL(f(x) ‖ f(x'))·(1 − p_y(x))`` (Wang et al. 2020, eq. 11), for hard labels only.

        Gradients flow through both outputs, and through MART's factor too, as in the published code.
        """
        if natural is None:
            return weighted_cross_entropy(logits, y, weight, reduction=reduction)
        if self.name == "mart" and self.released:
            return _reduced(*_released_mart(logits, natural, y, self.beta, weight), reduction)
        if self.name == "mart":
            doubt = 1 - natural.softmax(1).gather(1, y[:, None]).squeeze(1)
            boosted = boosted_cross_entropy(logits, y, weight, reduction=reduction)
            divergence = weighted_kl(logits, natural, doubt if weight is None else doubt * weight, reduction="none")
            return boosted + self.beta * _reduced(divergence, weight, reduction)
        return weighted_cross_entropy(natural, y, weight, reduction=reduction) + self.beta * weighted_kl(
            logits, natural, weight, reduction=reduction
        )


def _divergence(logits: Tensor, natural: Tensor) -> Tensor:
    """``KL(f(x) ‖ f(x'))`` [N] from the outputs at x' and at x."""
    return weighted_kl(logits.to(natural.dtype), natural, reduction="none")


def _released_mart(
    logits: Tensor, natural: Tensor, y: Tensor, beta: float, weight: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """MART's loss [N] with the constants of its code, times the weights, and the weights."""
    p, q = logits.softmax(1), natural.softmax(1)
    own = torch.nn.functional.one_hot(y, p.shape[1]).bool()
    rival = p.masked_fill(own, -1).argmax(1, keepdim=True)
    boosted = weighted_cross_entropy(logits, y, reduction="none") - (1.0001 - p + 1e-12).gather(1, rival).squeeze(1).log()
    divergence = (q * (q.log() - (p + 1e-12).log())).sum(1) * (1.0000001 - q.gather(1, y[:, None]).squeeze(1))
    loss = boosted + beta * divergence
    return loss if weight is None else loss * weight, weight


def _reduced(loss: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Losses [N] that are already weighted, reduced like the losses of :mod:`ro_fast.ops`."""
    if reduction == "weighted_mean" and weight is not None:
        total = weight.sum()
        return torch.where(total == 0, 0.0, loss.sum() / total)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


AT = Objective("at", 1)
OBJECTIVES: dict[str, Callable[[float], Objective]] = {
    "at": lambda beta: AT,
    "trades": lambda beta: Objective("trades", 2, beta, attack_forwards=1),
    "mart": lambda beta: Objective("mart", 2, beta),
    "trades2019": lambda beta: Objective("trades", 2, beta, attack_forwards=1, released=True),
    "mart2020": lambda beta: Objective("mart", 2, beta, released=True),
}
_RELEASED_START = 0.001


def build_objective(options: dict) -> Objective:
    """The objective named in a method's options; plain adversarial training by default.

    Raises:
        InputError: on an unknown name.
    """
    name = options.get("objective", "at")
    if name not in OBJECTIVES:
        raise InputError(f"method.objective '{name}' is unknown; available: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](float(options.get("beta", 6.0)))
