"""What adversarial training minimises: how the attack climbs, and what the loss is made of. Orthogonal to the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.borrow import borrowed
from ro_fast.errors import InputError
from ro_fast.ops import weighted_cross_entropy, weighted_kl

OPTIONS = ("objective", "beta")  # of every method


@dataclass(frozen=True)
class Objective:
    """One objective; ``forwards`` is how many forwards a step trains on."""

    name: str
    forwards: int
    beta: float = 6.0

    def attack(
        self,
        attack: PGD,
        model: nn.Module,
        x: Tensor,  # [N, ...]
        y: Tensor,  # int64 [N]
        eps: float | None = None,
    ) -> Tensor:
        """The adversarial inputs that the objective asks for.

        "at" climbs the cross-entropy. "trades" climbs ``KL(f(x) ‖ f(x'))`` from the natural answer, both in the attack's mode;
        it needs a random start, since that divergence is flat at x.
        """
        if self.name == "at":
            return attack(model, x, y, eps=eps)
        with torch.no_grad(), borrowed(model, attack.bn):
            natural = model(x)

        def divergence(logits: Tensor, y: Tensor) -> Tensor:
            return weighted_kl(logits.to(natural.dtype), natural, reduction="none")

        return dataclasses.replace(attack, loss=divergence)(model, x, y, eps=eps)

    def loss(
        self,
        logits: Tensor,  # [N, C] of adversarial inputs
        natural: Tensor | None,  # [N, C] of natural ones, where the objective needs them
        y: Tensor,  # int64 [N] or probabilities [N, C]
        weight: Tensor | None = None,  # [N]
        reduction: str = "mean",
    ) -> Tensor:
        """ "at": ``CE(f(x'), y)`` (Madry et al. 2018). "trades": ``CE(f(x), y) + β·KL(f(x) ‖ f(x'))`` (Zhang et al. 2019, eq. 5).

        Gradients flow into both answers, as in the published code.
        """
        if natural is None:
            return weighted_cross_entropy(logits, y, weight, reduction=reduction)
        return weighted_cross_entropy(natural, y, weight, reduction=reduction) + self.beta * weighted_kl(
            logits, natural, weight, reduction=reduction
        )


AT = Objective("at", 1)
OBJECTIVES: dict[str, Callable[[float], Objective]] = {"at": lambda beta: AT, "trades": lambda beta: Objective("trades", 2, beta)}


def build_objective(options: dict) -> Objective:
    """The objective that a method's options name; plain adversarial training unless they do.

    Raises:
        InputError: on an unknown name.
    """
    name = options.get("objective", "at")
    if name not in OBJECTIVES:
        raise InputError(f"method.objective '{name}' is unknown; there are: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](float(options.get("beta", 6.0)))
