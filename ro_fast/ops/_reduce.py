"""Shared by losses over rows of logits: their checks, weights and reductions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ro_fast.ops import _check

REDUCTIONS = ("none", "sum", "mean", "weighted_mean")


def check_logits(op: str, logits: Tensor, classes: int = 1) -> None:
    """[N, C] of a known dtype with at least that many classes."""
    _check.check_images(op, logits=logits)
    if logits.dim() != 2 or logits.shape[1] < classes:
        raise ValueError(f"{op}: logits have shape {list(logits.shape)}; [N, C] with C ≥ {classes} is needed")


def check_classes(op: str, name: str, target: Tensor, logits: Tensor) -> None:
    """int64 [N]."""
    if target.dtype != torch.int64:
        raise TypeError(f"{op}: {name} is {target.dtype}; torch.int64 is needed")
    _check.check_per_sample(op, name, target, logits)


def check_weight(op: str, weight: Tensor | None, logits: Tensor, reduction: str) -> None:
    """[N] or None, and a known reduction."""
    if weight is not None:
        _check.check_per_sample(op, "weight", weight, logits)
        _check.check_real(op, "weight", weight)
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction '{reduction}' is unknown; available: {', '.join(REDUCTIONS)}")


def weighted(rows: Callable[[Tensor | None], Tensor], weight: Tensor | None, reduction: str) -> Tensor:
    """Reduces ``rows(weight)``, the weighted losses [N]; each loss of weight 0 is 0.

    An operator is differentiable in its logits alone: weights are decided, not learnt, in nearly every method. A weight that
    requires grad is multiplied in here.
    """
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        loss = rows(None)
        loss = torch.where(weight == 0, 0.0, loss) * weight
    else:
        loss = rows(weight)
    if reduction == "none":
        return loss
    if reduction == "weighted_mean" and weight is not None:
        total = weight.sum(dtype=loss.dtype)
        return loss.sum() / torch.where(total == 0, 1.0, total)  # the other way round, zero weights would have NaN gradients
    if reduction == "weighted_mean" and len(loss) == 0:
        return loss.sum()
    return loss.sum() if reduction == "sum" else loss.mean()


def row_scale(like: Tensor, weight: Tensor | None) -> Tensor:
    """The weights [N] in the compute dtype, ones if there are none."""
    dtype = _check.compute_dtype(like)
    return like.new_ones(len(like), dtype=dtype) if weight is None else weight.to(dtype)
