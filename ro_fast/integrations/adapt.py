"""Shared by the adapters: input ranges as a layer in front of a model, and the loss of a targeted attack."""

from __future__ import annotations

from torch import Tensor, nn

from ro_fast.attacks.normalised import Affine
from ro_fast.ops import weighted_cross_entropy


def in_unit_range(model: nn.Module, lo: float, hi: float) -> nn.Module:
    """Wraps a model of inputs in [lo, hi] as one of inputs in [0, 1]."""
    return model if (lo, hi) == (0, 1) else nn.Sequential(Affine(hi - lo, lo), model)


def towards_target(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the cross-entropy of the target class, [N]: climbing it leads to that class."""
    return -weighted_cross_entropy(logits, target, reduction="none")
