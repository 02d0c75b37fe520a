"""Labels that are not a single class: smoothed, or accumulated from the model's own outputs over epochs."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.methods.step import Step


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    """Classes int64 [N], or probabilities [N, C] unchanged, in the shape and dtype of logits [N, C]."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    soft = target if target.dim() == 2 else torch.nn.functional.one_hot(target, like.shape[1])
    return soft.to(dtype)


def label_smoothing(step: Step, smoothing: float = 0.3) -> Tensor:
    """``mean_n ℓ(x'_n, (1 − s)·y_n + s/C)`` (Szegedy et al. 2016; in adversarial training Pang et al. 2021, arXiv 2010.00467).

    The attack climbs against the hard label. Pang et al. find that s from 0.1 to 0.3 helps.
    """
    logits = step.decide(trains=True).logits
    hard = one_hot(step.target, logits)
    soft = (1 - smoothing) * hard + smoothing / logits.shape[1]
    return step.loss(step.x_adv, logits=logits, target=soft)


def temporal_ensembling(step: Step, momentum: float = 0.9) -> Tensor:
    """``mean_n ℓ(x'_n, t_n)`` with soft labels that follow the model: ``t_n ← m·t_n + (1 − m)·softmax f(x'_n)``, initially y_n.

    A label that the model would not predict by itself fades before it is memorised: self-adaptive training (Huang et al.
    2020, arXiv 2002.10319, m = 0.9), which uses outputs on natural images; here they are on adversarial ones, which a
    step computes anyway. The labels are part of the run's state, [N_train, C].
    """
    assert step.index is not None, "temporal ensembling keeps a label a training image"
    logits = step.decide(trains=True).logits
    hard = one_hot(step.target, logits)
    labels = step.kept.state.setdefault("labels", hard.new_zeros(step.kept.samples, logits.shape[1]))
    known = labels[step.index]
    known = torch.where(known.sum(1, keepdim=True) > 0, known, hard)
    soft = momentum * known + (1 - momentum) * logits.detach().to(known.dtype).softmax(1)
    labels[step.index] = soft
    return step.loss(step.x_adv, logits=logits, target=soft)
