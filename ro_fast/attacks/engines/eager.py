"""Autograd through the model as it is: takes everything, and is what every other engine is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.attacks.engines.engine import Climb, Gradient, Loss, Model, Plan, climb_by


class Eager:
    """Autograd through the model as it is."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes everything."""
        return None

    def functions(self, model: Model, x: Tensor, loss: Loss) -> tuple[Model, Gradient]:
        """Logits without a graph, and input gradients."""
        return torch.no_grad()(lambda inputs: model(inputs)), input_gradient(model, loss)

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """One forward and one backward of autograd a step."""
        return climb_by(input_gradient(model, plan.loss), plan)


def input_gradient(model: Model, loss: Loss) -> Gradient:
    """Input gradients by autograd."""

    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x_adv.detach().requires_grad_()
            (grad,) = torch.autograd.grad(loss(model(leaf), y), leaf)
        return grad

    return gradient
