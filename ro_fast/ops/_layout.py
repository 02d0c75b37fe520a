"""Memory order of images: sample-major, either contiguous or channels_last, so that each sample is one block of memory."""

from __future__ import annotations

import torch
from torch import Tensor


def order_of(t: Tensor) -> torch.memory_format:
    """The memory order of ``t``; for a tensor in neither order, the order to copy it to.

    Strides alone don't decide: with one channel both orders are the same memory with different strides.
    """
    if not t.is_contiguous() and t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def in_order(t: Tensor, order: torch.memory_format) -> Tensor:
    """``t`` itself if it is in that order, otherwise a copy that is."""
    return t.contiguous(memory_format=order)


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """Makes each tensor that is not None contiguous."""
    return [t if t is None else t.contiguous() for t in tensors]
