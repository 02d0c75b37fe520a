"""One PGD step, which may also write the next forward's input; see ro_fast/ops/pgd_step.py and pgd_step_input.py.

L∞ acts on each value alone, so images are one flat block of memory: a program moves, projects and clips B values.
L2 has two norms per sample, ‖g‖ and ‖δ‖ with δ = x_adv + α·g/‖g‖ − x, and neither is known before its row has been read: a
program handles one sample and reads its row three times, first from memory and then from the caches.
The input (x − mean_c)/std_c is written from the values just moved, to their positions in its own memory order.

# I/O: read x_adv, x, grad; write out (and input)
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
    p_input,
    p_mean,
    p_std,
    size,
    D,
    C,
    FROM_LAST: tl.constexpr,
    TO_LAST: tl.constexpr,
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
    if p_input is not None:
        _write_input(p_input + o_n * D, p_mean, p_std, b_new, o - o_n * D, m, D, C, FROM_LAST, TO_LAST, DTYPE)


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
    p_input,
    p_mean,
    p_std,
    size,
    D,
    C,
    FROM_LAST: tl.constexpr,
    TO_LAST: tl.constexpr,
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
        if p_input is not None:
            _write_input(p_input + n * D, p_mean, p_std, b_new, o_d, o_d < D, D, C, FROM_LAST, TO_LAST, DTYPE)


@triton.jit
def _delta(p_adv, p_x, p_grad, o_d, D, alpha, g_norm, moves, DTYPE: tl.constexpr):
    """x_adv + α·g/‖g‖ − x, x and the stored x_adv of one block of a row; 0 beyond its end."""
    b_adv = tl.load(p_adv + o_d, o_d < D, other=0.0)  # [B]
    b_x = tl.load(p_x + o_d, o_d < D, other=0.0).to(DTYPE)  # [B]
    b_g = tl.load(p_grad + o_d, o_d < D, other=0.0).to(DTYPE)  # [B]
    b_step = tl.where(moves, alpha * (b_g / g_norm), 0.0)  # [B]
    return b_adv.to(DTYPE) + b_step - b_x, b_x, b_adv


@triton.jit
def _write_input(
    p_input, p_mean, p_std, b_x, o_d, m, D, C, FROM_LAST: tl.constexpr, TO_LAST: tl.constexpr, DTYPE: tl.constexpr
):
    """(x − mean_c)/std_c of values at o_d of their samples; LAST: the values of one position are adjacent."""
    o_d = o_d.to(tl.int32)
    positions = D // C
    if FROM_LAST:
        o_p = o_d // C
        o_c = o_d - o_p * C
    else:
        o_c = o_d // positions
        o_p = o_d - o_c * positions
    o_to = o_p * C + o_c if TO_LAST else o_c * positions + o_p
    b_mean = tl.load(p_mean + o_c, m, other=0.0)  # [B]
    b_std = tl.load(p_std + o_c, m, other=1.0)  # [B]
    b_input = (b_x.to(DTYPE) - b_mean) / b_std
    if p_input.dtype.element_ty == tl.bfloat16:
        b_input = b_input.to(tl.float32)  # otherwise Triton's interpreter turns float64 into 0
    tl.store(p_input + o_to, b_input.to(p_input.dtype.element_ty), m)


def _launch(
    x: Tensor, norm: str, *step: Tensor | float | None, input: Tensor | None, mean: Tensor | None, std: Tensor | None
) -> None:
    size = x.numel()
    if size == 0:
        return
    d, block = size // len(x), 1024
    check_count("pgd_step", "a sample", d)
    kernel, grid = (_linf, triton.cdiv(size, block)) if norm == "linf" else (_l2, rows_grid("pgd_step", len(x)))
    last = x.dim() > 1 and x.stride(1) == 1
    with torch.cuda.device_of(x):
        kernel[(grid,)](
            *step, input, mean, std, size, d, 1 if mean is None else len(mean),
            FROM_LAST=last, TO_LAST=last if input is None else input.stride(1) == 1,
            B=block, DTYPE=compute_dtype(x), num_warps=4,
        )  # fmt: skip


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
    step = (out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, lo, hi, active)
    _launch(x, norm, *step, input=None, mean=None, std=None)


def pgd_step_input(
    out: Tensor,
    input: Tensor,
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
    mean: Tensor,
    std: Tensor,
) -> None:
    step = (out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, lo, hi, active)
    _launch(x, norm, *step, input=input, mean=mean, std=std)
