"""Shared by the kernels: dtypes, size limits, per-sample numbers, a clamp that keeps NaN, the L∞ step, a float64 norm."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def compute_dtype(t: torch.Tensor) -> tl.dtype:
    """float64 stays float64; float32 and bfloat16 are computed in float32."""
    return tl.float64 if t.dtype == torch.float64 else tl.float32


def rows_grid(op: str, rows: int) -> int:
    """One program per row; raises ValueError if that is more programs than a launch allows."""
    if rows >= 2**31:
        raise ValueError(f"{op}: {rows} samples need as many programs, but a launch allows {2**31 - 1}; split the batch")
    return rows


def check_count(op: str, what: str, count: int) -> None:
    """Raises ValueError if offsets within something exceed the 32 bits in which a kernel counts them."""
    if count >= 2**31 - 4096:
        raise ValueError(f"{op}: {count} values in {what} exceed the 32-bit indices of the Triton kernel; name another backend")


@triton.jit
def sample_of(start, D, B: tl.constexpr):
    """The samples [B] to which B values from the flat offset ``start`` on belong; one 64-bit division for the block."""
    first = start // D
    return first + ((start - first * D).to(tl.int32) + tl.arange(0, B)) // D


@triton.jit
def per_sample(number, p_number, o_n, m_n, DTYPE: tl.constexpr):
    """A number for all samples, or the values at ``o_n`` if a tensor of them was given."""
    if p_number is None:
        return tl.full((1,), number, DTYPE)
    else:
        return tl.load(p_number + o_n, m_n).to(DTYPE)


@triton.jit
def clamp(b_x, lo, hi):
    """min(max(x, lo), hi); NaN stays NaN, as in torch."""
    b_x = tl.maximum(b_x, lo, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(b_x, hi, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def step_linf(b_adv, b_x, b_g, b_eps, b_alpha, lo, hi, DTYPE: tl.constexpr):
    """clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi) in DTYPE; sign(0) = sign(NaN) = 0."""
    b_sign = tl.where(b_g > 0, 1.0, tl.where(b_g < 0, -1.0, 0.0)).to(DTYPE)
    b_new = clamp(b_adv + b_alpha * b_sign, b_x - b_eps, b_x + b_eps)
    return clamp(b_new, tl.full((1,), lo, DTYPE), tl.full((1,), hi, DTYPE))


@triton.jit
def row_norm(p_row, D, B: tl.constexpr, DTYPE: tl.constexpr):
    """‖row‖₂, summed in float64: squares of saturated gradients underflow in float32."""
    b_sum = tl.zeros((B,), tl.float64)
    for o_start in range(0, D, B):
        o_d = o_start + tl.arange(0, B)
        b_x = tl.load(p_row + o_d, o_d < D, other=0.0).to(DTYPE).to(tl.float64)  # [B]
        b_sum += b_x * b_x
    return tl.sqrt(tl.sum(b_sum, 0)).to(DTYPE)
