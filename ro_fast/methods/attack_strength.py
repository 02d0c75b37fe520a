"""A larger budget on small-loss samples (arXiv 2310.00607: ROFG_AS, attack strength)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy


def attack_strength(step: Step, eps_ratio: float = 2.0) -> Tensor:
    """``mean_n CE(f(x'_n), y_n)``, x' attacked within ``ε_a = eps_ratio·ε`` where the loss at ε is small."""
    small = step.decide(trains=False).small.nonzero().squeeze(1)
    x = step.x_adv.clone()
    if len(small) > 0:
        x[small] = step.attacked(step.x[small], step.y[small], eps=eps_ratio * step.attack.eps)
    return weighted_cross_entropy(step.forward(x), step.y)
