"""Taking the perturbation off small-loss samples while their natural images stay (arXiv 2310.00607, factor ablation)."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy


def perturbation(step: Step) -> Tensor:
    """``mean_n CE(f(x'_n), y_n)``, x' the natural input where the adversarial loss is small, else the adversarial one."""
    small = step.decide(trains=False).small
    x = torch.where(small.view(-1, *[1] * (step.x.dim() - 1)), step.x, step.x_adv)
    return weighted_cross_entropy(step.forward(x), step.y)
