"""The counted cost of a forward pass, so that the work of runs can be reported beside their time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ro_fast.attacks.borrow import borrowed


def forward_flops(model: nn.Module, x: Tensor) -> float:
    """Floating-point operations of one sample's forward pass: two per multiply-add; convolutions and matrix products only."""
    with borrowed(model, "eval"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() / len(x)
