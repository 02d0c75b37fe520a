"""Memory order of images: sample-major, either contiguous or channels_last, so that a sample is one run of memory."""

from __future__ import annotations

import torch
from torch import Tensor


def order_of(t: Tensor) -> torch.memory_format:
    """The order ``t`` lies in; for a tensor that is neither, the order it has to be copied to.

    Strides alone don't tell: with one channel the two orders are the same memory under different strides.
    """
    if not t.is_contiguous() and t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def in_order(t: Tensor, order: torch.memory_format) -> Tensor:
    """``t`` itself where it lies in that order, else a copy that does."""
    return t.contiguous(memory_format=order)


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """Each tensor that is there, contiguous."""
    return [t if t is None else t.contiguous() for t in tensors]
