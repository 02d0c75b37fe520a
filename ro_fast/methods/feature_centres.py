"""A regulariser derived from the project's own statistic: how well class centres of other samples predict a sample's class."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.methods.step import Step


def feature_centres(step: Step, strength: float = 2.0) -> Tensor:
    """``mean_n ℓ(x'_n) + λ·R`` with R a smooth form of the training half of the feature generalisation gap.

    :func:`ro_fast.features.feature_gap` asks whether the nearest centre is that of a sample's class, where the centre of its own
    class is computed without it. R asks the same of a batch's adversarial features h(x'), with *natural* feature centres of the
    other samples: ``R = mean_n −log softmax_c(−‖h(x'_n) − m_c^(−n)‖²/τ)_{y_n}``, with τ the mean squared distance of the centres
    from their mean. Centres and τ are constants to the gradient, so features can't lower R by shrinking.

    Why: perturbations degrade features by moving them off the natural structure of their class. R rewards positions that
    *other* samples of the class account for; a memorised sample has none. A wrong label is still pulled to the wrong
    centre. R needs two samples of a class in the batch; others are left out of it. It costs a forward
    pass on the natural batch. The strength has no published value: of 0.1, 0.5 and 2 the last was best, by little, on seeds 100
    and 101 of the noisy digits.
    """
    decision, features = step.decide_with_features()
    penalty = centre_loss(features, step.look(step.x), step.y, decision.logits.shape[1])
    return step.loss(step.x_adv, logits=decision.logits) + strength * penalty


def centre_loss(
    features: Tensor,  # [N, D] adversarial
    natural: Tensor,  # [N, D] of the same samples
    y: Tensor,  # int64 [N]
    num_classes: int,
) -> Tensor:
    """R of :func:`feature_centres`, a scalar; 0 if no class has two samples."""
    count = torch.bincount(y, minlength=num_classes).to(natural.dtype)  # [C]
    total = natural.new_zeros(num_classes, natural.shape[1]).index_add_(0, y, natural)
    centre = total / count.clamp(min=1)[:, None]  # [C, D]
    there = count > 0
    mean = centre[there].mean(0)
    scale = (centre[there] - mean).square().sum(1).mean().clamp(min=1e-12)
    without = (total[y] - natural) / (count[y] - 1).clamp(min=1)[:, None]  # [N, D] own class's centre without the sample
    distance = torch.cdist(features, centre, compute_mode="donot_use_mm_for_euclid_dist").square()
    own = (features - without).square().sum(1)
    distance = distance.scatter(1, y[:, None], own[:, None]).masked_fill(~there, torch.inf)
    counts = (count[y] > 1).to(features.dtype)
    each = -torch.log_softmax(-distance / scale, 1).gather(1, y[:, None]).squeeze(1)
    return torch.where(counts > 0, each, 0.0).sum() / counts.sum().clamp(min=1)
