"""Autograd through the model as it is: takes everything, and is the reference for every other engine."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.engines.engine import Climb, Gradient, Logits, Loss, Model, Plan, climb_by


class Eager:
    """Autograd through the model as it is."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes everything."""
        return None

    def functions(self, model: Model, x: Tensor, plan: Plan, loss: Loss) -> tuple[Logits, Gradient]:
        """Logits without a graph, and input gradients of a loss."""
        return torch.no_grad()(lambda inputs: logits_of(model(inputs), plan.output)), input_gradient(model, loss, plan.output)

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """One forward and one backward of autograd per step."""
        return climb_by(input_gradient(model, plan.loss, plan.output), plan)


def input_gradient(model: Model, loss: Loss, output: Output = None) -> Gradient:
    """Input gradients by autograd."""

    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x_adv.detach().requires_grad_()
            (grad,) = torch.autograd.grad(loss(logits_of(model(leaf), output), y), leaf)
        return grad

    return gradient
