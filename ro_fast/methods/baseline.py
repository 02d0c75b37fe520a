"""Adversarial training with its objective alone: PGD-AT (Madry et al. 2018, arXiv 1706.06083), or TRADES (arXiv 1901.08573)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.step import Step


def baseline(step: Step) -> Tensor:
    """``mean_n ℓ(f, x_n, x_adv_n, y_n)``, with ℓ = CE(f(x_adv), y) in plain adversarial training."""
    return step.loss(step.x_adv, logits=step.decide(trains=True).logits)
