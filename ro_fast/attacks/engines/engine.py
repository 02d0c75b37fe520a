"""The interface of an engine, which prepares one attack on a model, and the PGD loop over its input gradients.

An engine says in ``why_not`` what it can't take. Its ``prepare`` gets ready for one attack on the model as it is now and
returns the function that climbs from a start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ro_fast.attacks.answer import Output
from ro_fast.attacks.box import Box

Model = Callable[[Tensor], Any]  # returns logits [N, C], or something that holds them
Logits = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # logits, y -> the sum over samples
Gradient = Callable[[Tensor, Tensor], Tensor]  # x_adv, y -> ∇ₓ in the dtype of x_adv


@dataclass(frozen=True)
class Plan:
    """What is the same for all restarts of an attack."""

    loss: Loss
    steps: int
    training: bool  # whether any module is in train mode during the attack
    cross_entropy: bool  # whether the loss is cross-entropy with hard labels
    box: Box
    output: Output = None  # where the logits are in the model's return value
    spread: float = 0.0  # of a normal start, not clipped; 0: a start within the ball


@dataclass(frozen=True)
class Start:
    """Where a climb begins, and how far it may go."""

    x: Tensor  # [N, ...] natural inputs
    y: Tensor
    eps: float | Tensor
    alpha: float | Tensor
    noise: Tensor | None  # [N, ...]; None starts at x
    active: Tensor | None  # bool [N]


Climb = Callable[[Start], Tensor]


def climb_by(gradient: Gradient, plan: Plan) -> Climb:
    """The PGD loop over a function that returns input gradients."""

    def climb(start: Start) -> Tensor:
        x, active = start.x, start.active
        if start.noise is None:
            x_adv = x.clone()
        else:
            x_adv = x + plan.spread * start.noise if plan.spread else plan.box.start(x, start.eps, start.noise)
        if active is not None and start.noise is not None:
            x_adv = torch.where(active.view(-1, *[1] * (x.dim() - 1)), x_adv, x)
        for _ in range(plan.steps):
            grad = gradient(x_adv, start.y)
            plan.box.step(x_adv, x, grad, start.eps, start.alpha, active=active, out=x_adv)
        return x_adv

    return climb
