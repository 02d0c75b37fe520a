"""A larger budget on small-loss samples (arXiv 2310.00607: ROFG_AS, attack strength)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.perturbation import small_of
from ro_fast.methods.step import Step


def attack_strength(step: Step, eps_ratio: float = 2.0, masks: str = "moving") -> Tensor:
    """``mean_n ℓ(x'_n)``, x' attacked within ``ε_a = eps_ratio·ε`` if the loss at ε is small."""
    small = small_of(step, step.decide(trains=False), masks).nonzero().squeeze(1)
    x = step.x_adv.clone()
    if len(small) > 0:
        x[small] = step.attacked(step.x[small], step.target[small], eps=eps_ratio * step.attack.ball()[1])
    return step.loss(x)
