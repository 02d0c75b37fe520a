"""The random start of PGD; see ro_fast/ops/pgd_init.py for the definition.

L∞ is flat, with B values per program. L2 has one sample per program and reads its noise twice, for the norm and for the
direction.

# I/O: read x, noise; write out
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import check_count, clamp, compute_dtype, per_sample, row_norm, rows_grid, sample_of


@triton.jit
def _linf(
    p_out, p_x, p_noise, eps: tl.float64, p_eps, lo: tl.float64, hi: tl.float64, size, D,
    B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * B
    o = start + tl.arange(0, B)
    m = o < size
    b_x = tl.load(p_x + o, m, other=0.0)  # [B]
    b_u = tl.load(p_noise + o, m, other=0.0).to(DTYPE)  # [B]
    b_eps = per_sample(eps, p_eps, sample_of(start, D, B), m, DTYPE)  # [B] or [1]
    b_new = clamp(b_x.to(DTYPE) + b_eps * b_u, tl.full((1,), lo, DTYPE), tl.full((1,), hi, DTYPE))
    tl.store(p_out + o, b_new.to(b_x.dtype), m)


@triton.jit
def _l2(
    p_out, p_x, p_noise, eps: tl.float64, p_eps, lo: tl.float64, hi: tl.float64, size, D,
    B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    eps_n = per_sample(eps, p_eps, n + tl.arange(0, 1), None, DTYPE)  # [1]
    norm = row_norm(p_noise + n * D, D, B, DTYPE)
    for o_start in range(0, D, B):
        o_d = o_start + tl.arange(0, B)
        b_x = tl.load(p_x + n * D + o_d, o_d < D, other=0.0)  # [B]
        b_u = tl.load(p_noise + n * D + o_d, o_d < D, other=0.0).to(DTYPE)  # [B]
        b_u = tl.where(norm > 0, b_u / norm, 0.0)
        b_new = clamp(b_x.to(DTYPE) + eps_n * b_u, tl.full((1,), lo, DTYPE), tl.full((1,), hi, DTYPE))
        tl.store(p_out + n * D + o_d, b_new.to(b_x.dtype), o_d < D)


def pgd_init(
    out: Tensor, x: Tensor, noise: Tensor, eps: float, eps_n: Tensor | None, norm: str, lo: float, hi: float
) -> None:
    size = x.numel()
    if size == 0:
        return
    d = size // len(x)
    block = 1024
    check_count("pgd_init", "a sample", d)
    kernel, grid = (_linf, triton.cdiv(size, block)) if norm == "linf" else (_l2, rows_grid("pgd_init", len(x)))
    with torch.cuda.device_of(x):
        kernel[(grid,)](
            out, x, noise, eps, eps_n, lo, hi, size, d, B=block, DTYPE=compute_dtype(x), num_warps=4
        )  # fmt: skip
