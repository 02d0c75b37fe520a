"""Small losses and their histogram; see ro_fast/ops/small_loss.py for the definition.

A program takes B losses and adds each to its bin by an atomic addition of integers, whose order changes nothing. In
float64, so that a loss falls into the same bin on every backend.

# I/O: read loss; write small, counts
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _small(
    p_small, p_counts, p_loss, threshold: tl.float64, p_threshold, lo: tl.float64, scale: tl.float64, N,
    BINS: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    o_n = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    m_n = o_n < N
    b_loss = tl.load(p_loss + o_n, m_n, other=0.0).to(tl.float64)  # [B]
    limit = threshold
    if p_threshold is not None:
        limit = tl.load(p_threshold)
    tl.store(p_small + o_n, b_loss < limit, m_n)
    b_bin = (b_loss - lo) * scale
    # Not below the last is in it, which NaN never is; before the conversion, which has no answer for either.
    b_bin = tl.where(b_bin < BINS - 1, tl.where(b_bin > 0, b_bin, 0.0), BINS - 1.0)
    tl.atomic_add(p_counts + b_bin.to(tl.int64), tl.full((B,), 1, tl.int64), m_n)


def small_loss(
    loss: Tensor, threshold: float, threshold_t: Tensor | None, bins: int, lo: float, hi: float
) -> tuple[Tensor, Tensor]:
    n = len(loss)
    small = torch.empty(n, dtype=torch.bool, device=loss.device)
    counts = torch.zeros(bins, dtype=torch.int64, device=loss.device)
    block = 256
    if n > 0:
        with torch.cuda.device_of(loss):
            _small[(triton.cdiv(n, block),)](
                small, counts, loss, threshold, threshold_t, lo, bins / (hi - lo), n, BINS=bins, B=block, num_warps=4
            )
    return small, counts
