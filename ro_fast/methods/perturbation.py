"""Other perturbations on small-loss samples: none, random, another sample's, or that from the fork (arXiv 2310.00607).

All train on ``mean_n ℓ(x'_n)``, where ``x'_n`` of a large-loss sample is its adversarial input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ro_fast.methods.step import Decision, Step


def small_of(step: Step, decision: Decision, masks: str) -> Tensor:
    """Small-loss samples, bool [N]: those of this step ("moving"), those at the fork ("frozen"), or those of this step
    that were not so at the fork ("transformed": Yu et al. 2022, whose code does the same)."""
    if masks == "moving":
        return decision.small
    assert step.remembered is not None, f"a method with {masks} masks is given what was at the fork"
    return step.remembered.small if masks == "frozen" else decision.small & ~step.remembered.small


def perturbation(step: Step, masks: str = "moving") -> Tensor:
    """Small-loss samples lose their perturbation and stay natural inputs: the factor ablation's second arm."""
    return _instead(step, lambda: step.x, masks)


def random_perturbation(step: Step, masks: str = "moving") -> Tensor:
    """Small-loss samples get noise of the full radius: a random corner of the L∞ ball, a random direction in L2."""

    def random() -> Tensor:
        noise = torch.empty_like(step.x)
        if step.attack.norm == "linf":
            noise.uniform_(-1, 1, generator=step.generator).sign_()  # of the same size, in every value, as most adversarial ones
        else:
            noise.normal_(generator=step.generator)
        box, eps, _ = step.attack.ball()
        return box.start(step.x, eps, noise)

    return _instead(step, random, masks)


def foreign_perturbation(step: Step, masks: str = "moving") -> Tensor:
    """Small-loss samples get the perturbation of their neighbour in the batch: made against the model, but not for them."""
    return _instead(step, lambda: (step.x + (step.x_adv - step.x).roll(1, 0)).clamp(0, 1), masks)


def frozen_perturbation(step: Step, masks: str = "moving") -> Tensor:
    """Small-loss samples keep the perturbation they had at the fork: it no longer follows the model."""

    def frozen() -> Tensor:
        assert step.remembered is not None, "frozen_perturbation is given what was at the fork"
        return (step.x + step.remembered.perturbation).clamp(0, 1)

    return _instead(step, frozen, masks)


def _instead(step: Step, other: Callable[[], Tensor], masks: str) -> Tensor:
    small = small_of(step, step.decide(trains=False), masks)
    return step.loss(torch.where(small.view(-1, *[1] * (step.x.dim() - 1)), other(), step.x_adv))
