"""Leaving samples out by their adversarial loss: the factor ablation's removal of natural data, and its controls.

``Σ_n keep_n·ℓ_n / denominator``, with switches that determine how exactly samples are left out:

* masks: "moving" decides at each step; "frozen" uses the small-loss samples of the fork throughout.
* denominator: "all" divides by N, as published; "kept" by the samples kept.
* removed_in_batchnorm: True passes removed samples through the training forward, where they count in BatchNorm's
  statistics, as published; False leaves them out of it.
* lr: "matched" undoes the denominator's effect on the step length. If the loss is divided by all samples, the learning rate is
  divided by the fraction kept, so that steps are as long as without removal; if by those kept, it is multiplied by it, so
  that each sample kept moves the weights as much as without removal. It synchronises with the device at each step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ro_fast.methods.perturbation import small_of
from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy

_REDUCTIONS = {"all": "mean", "kept": "weighted_mean"}


def data_and_perturbation(
    step: Step, masks: str = "moving", denominator: str = "all", removed_in_batchnorm: bool = True, lr: str = "as_is"
) -> Tensor:
    """Leaves out small-loss samples together with their perturbations (arXiv 2310.00607, factor ablation)."""
    return _without(step, lambda small: small, masks, denominator, removed_in_batchnorm, lr)


def large_loss_removal(
    step: Step, masks: str = "moving", denominator: str = "all", removed_in_batchnorm: bool = True, lr: str = "as_is"
) -> Tensor:
    """Leaves out the large-loss samples instead: the other side of the threshold."""
    return _without(step, lambda small: ~small, masks, denominator, removed_in_batchnorm, lr)


def random_removal(
    step: Step,
    masks: str = "moving",
    denominator: str = "all",
    removed_in_batchnorm: bool = True,
    lr: str = "as_is",
    count: str = "small",
) -> Tensor:
    """Leaves out as many samples as are small-loss, or large-loss, at random: does it matter which go, or how many?"""

    def drawn(small: Tensor) -> Tensor:
        rank = torch.rand(len(small), generator=step.generator, device=small.device).argsort().argsort()
        return rank < (small.sum() if count == "small" else (~small).sum())

    return _without(step, drawn, masks, denominator, removed_in_batchnorm, lr)


def _without(
    step: Step, removed_of: Callable[[Tensor], Tensor], masks: str, denominator: str, removed_in_batchnorm: bool, lr: str
) -> Tensor:
    decision = step.decide(trains=removed_in_batchnorm)
    keep = ~removed_of(small_of(step, decision, masks))
    if lr == "matched":
        share = max(keep.float().mean().item(), 1 / len(keep))
        step.lr_scale = 1 / share if denominator == "all" else share
    if removed_in_batchnorm:
        weight = keep.to(decision.loss.dtype)
        return step.loss(step.x_adv, logits=decision.logits, weight=weight, reduction=_REDUCTIONS[denominator])
    return _among_kept(step, keep, denominator)


def _among_kept(step: Step, keep: Tensor, denominator: str) -> Tensor:
    index = keep.nonzero().squeeze(1)
    if len(index) < 2:  # BatchNorm has no statistics of one sample; with a loss of 0 only momentum and decay act
        return sum(p.sum() for p in step.model.parameters()) * 0.0  # type: ignore[return-value]
    total = step.among(index).loss(step.x_adv[index], reduction="sum")
    return total / (len(keep) if denominator == "all" else len(index))


def mlcat_loss_scaling(step: Step, detach: bool = True) -> Tensor:
    """Scales small losses up to the threshold c, ``mean_n ℓ_n·max(1, c/ℓ_n)`` (MLCAT, Yu et al. 2022, arXiv 2206.08675).

    The factor c/ℓ is a constant to the gradient with ``detach=True``, as the paper describes. The released code
    does not detach it (False): a scaled loss is then the constant c, its gradient is 0, and the method removes small-loss
    samples instead.
    """
    decision = step.decide(trains=True)
    loss = weighted_cross_entropy(decision.logits, step.target, reduction="none")
    factor = step.threshold(decision) / (loss.detach() if detach else loss).clamp(min=1e-12)
    return torch.where(decision.small, factor * loss, loss).mean()
