"""One PGD step; see ro_fast/ops/pgd_step.py.

L∞ acts on each value alone, so images are one flat block of memory: a program moves, projects and clips B values.
L2 has two norms per sample, ‖g‖ and ‖δ‖ with δ = x_adv + α·g/‖g‖ − x, and neither is known before its row has been read: a
program handles one sample and reads its row three times, first from memory and then from the caches.

# I/O: read x_adv, x, grad; write out
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import check_count, clamp, compute_dtype, per_sample, row_norm, rows_grid, sample_of, step_linf


@triton.jit
def _linf(
    p_out,
    p_adv,
    p_x,
    p_grad,
    eps: tl.float64,
    alpha: tl.float64,
    p_eps,
    p_alpha,
    lo: tl.float64,
    hi: tl.float64,
    p_active,
    size,
    D,
    B: tl.constexpr,
    DTYPE: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * B
    o = start + tl.arange(0, B)
    m = o < size
    o_n = sample_of(start, D, B)
    b_adv = tl.load(p_adv + o, m, other=0.0)  # [B]
    b_x = tl.load(p_x + o, m, other=0.0).to(DTYPE)  # [B]
    b_g = tl.load(p_grad + o, m, other=0.0).to(DTYPE)  # [B]
    b_eps = per_sample(eps, p_eps, o_n, m, DTYPE)  # [B] or [1]
    b_alpha = per_sample(alpha, p_alpha, o_n, m, DTYPE)  # [B] or [1]
    b_new = step_linf(b_adv.to(DTYPE), b_x, b_g, b_eps, b_alpha, lo, hi, DTYPE).to(b_adv.dtype)  # [B]
    if p_active is not None:
        b_new = tl.where(tl.load(p_active + o_n, m, other=0) != 0, b_new, b_adv)
    tl.store(p_out + o, b_new, m)


@triton.jit
def _l2(
    p_out,
    p_adv,
    p_x,
    p_grad,
    eps: tl.float64,
    alpha: tl.float64,
    p_eps,
    p_alpha,
    lo: tl.float64,
    hi: tl.float64,
    p_active,
    size,
    D,
    B: tl.constexpr,
    DTYPE: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    eps_n = per_sample(eps, p_eps, n + tl.arange(0, 1), None, DTYPE)  # [1]
    alpha_n = per_sample(alpha, p_alpha, n + tl.arange(0, 1), None, DTYPE)  # [1]
    g_norm = row_norm(p_grad + n * D, D, B, DTYPE)
    moves = (g_norm > 0) & (g_norm < float("inf"))

    b_sum = tl.zeros((B,), tl.float64)
    for o_start in range(0, D, B):
        o_d = o_start + tl.arange(0, B)
        b_delta, b_x, b_adv = _delta(p_adv + n * D, p_x + n * D, p_grad + n * D, o_d, D, alpha_n, g_norm, moves, DTYPE)
        b_sum += b_delta.to(tl.float64) * b_delta.to(tl.float64)
    d_norm = tl.sqrt(tl.sum(b_sum, 0)).to(DTYPE)
    shrink = tl.where(d_norm > eps_n, eps_n / d_norm, 1.0)  # [1]

    for o_start in range(0, D, B):
        o_d = o_start + tl.arange(0, B)
        b_delta, b_x, b_adv = _delta(p_adv + n * D, p_x + n * D, p_grad + n * D, o_d, D, alpha_n, g_norm, moves, DTYPE)
        b_new = clamp(b_x + b_delta * shrink, tl.full((1,), lo, DTYPE), tl.full((1,), hi, DTYPE)).to(b_adv.dtype)
        if p_active is not None:
            b_new = tl.where(tl.load(p_active + n) != 0, b_new, b_adv)
        tl.store(p_out + n * D + o_d, b_new, o_d < D)


@triton.jit
def _delta(p_adv, p_x, p_grad, o_d, D, alpha, g_norm, moves, DTYPE: tl.constexpr):
    """x_adv + α·g/‖g‖ − x, x and the stored x_adv of one block of a row; 0 beyond its end."""
    b_adv = tl.load(p_adv + o_d, o_d < D, other=0.0)  # [B]
    b_x = tl.load(p_x + o_d, o_d < D, other=0.0).to(DTYPE)  # [B]
    b_g = tl.load(p_grad + o_d, o_d < D, other=0.0).to(DTYPE)  # [B]
    b_step = tl.where(moves, alpha * (b_g / g_norm), 0.0)  # [B]
    return b_adv.to(DTYPE) + b_step - b_x, b_x, b_adv


def pgd_step(
    out: Tensor,
    x_adv: Tensor,
    x: Tensor,
    grad: Tensor,
    eps: float,
    alpha: float,
    eps_n: Tensor | None,
    alpha_n: Tensor | None,
    norm: str,
    lo: float,
    hi: float,
    active: Tensor | None,
) -> None:
    size = x.numel()
    if size == 0:
        return
    d, block = size // len(x), 1024
    check_count("pgd_step", "a sample", d)
    kernel, grid = (_linf, triton.cdiv(size, block)) if norm == "linf" else (_l2, rows_grid("pgd_step", len(x)))
    with torch.cuda.device_of(x):
        kernel[(grid,)](
            out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, lo, hi, active, size, d,
            B=block, DTYPE=compute_dtype(x), num_warps=4,
        )  # fmt: skip
