"""What the adapters share: input ranges and normalisation as a layer in front of a model, and the loss of a targeted attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ro_fast.ops import weighted_cross_entropy


class Affine(nn.Module):
    """``scale·x + shift``, each a number or [C, 1, 1], in the dtype and on the device of the input."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor | float, shift: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:  # [N, ...]
        return x * self.scale.to(x) + self.shift.to(x)


def in_unit_range(model: nn.Module, lo: float, hi: float) -> nn.Module:
    """The model of inputs in [lo, hi] as one of inputs in [0, 1]."""
    return model if (lo, hi) == (0, 1) else nn.Sequential(Affine(hi - lo, lo), model)


def towards_target(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the cross-entropy of the target class, [N]: climbing it leads there."""
    return -weighted_cross_entropy(logits, target, reduction="none")
