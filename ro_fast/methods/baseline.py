"""PGD adversarial training (Madry et al. 2018, arXiv 1706.06083)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy


def baseline(step: Step) -> Tensor:
    """``mean_n CE(f(x_adv_n), y_n)``."""
    return weighted_cross_entropy(step.decide(trains=True).logits, step.y)
