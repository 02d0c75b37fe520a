"""Weighted cross-entropy and its gradient; see ro_fast/ops/weighted_cross_entropy.py for the definition.

A program handles R rows and processes their classes B at a time, three times: first from memory, then from the caches.
With m = max_c z_c and l = log Σ_c exp(z_c − m):

    ce = −Σ_c q_c (z_c − m − l)        ∂ce/∂z_c = (Σ_k q_k)·exp(z_c − m − l) − q_c

where a class with q_c = 0 adds nothing, however small its probability. The forward stores no softmax; the backward
recomputes it. Sums over samples are left to torch, so they are deterministic. A hard label outside [0, C) makes
its loss and gradient NaN: an error would have to synchronise.

# I/O: forward: read logits, target, weight; write ce. backward: read grad, logits, target, weight; write d_logits
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import compute_dtype


@triton.jit
def _forward(
    p_loss, p_logits, p_target, p_weight, smoothing: tl.float64, N, C,
    SOFT: tl.constexpr, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    o_n = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    m_n = o_n < N
    b_max, b_log, b_mass = _row_sums(p_logits, p_target, o_n, m_n, C, SOFT, R, B, DTYPE)  # [R] each
    b_sum = tl.zeros((R, B), DTYPE)
    for o_start in range(0, C, B):
        o_c = o_start + tl.arange(0, B)
        b_z = _tile(p_logits, o_n, m_n, o_c, C, DTYPE)  # [R, B]
        b_q = _target(p_target, o_n, m_n, o_c, C, b_mass, smoothing, SOFT, DTYPE)  # [R, B]
        b_sum += tl.where(b_q == 0, 0.0, b_q * (b_z - b_max[:, None] - b_log[:, None]))
    b_loss = -tl.sum(b_sum, 1)
    if p_weight is not None:
        b_w = tl.load(p_weight + o_n, m_n, other=0).to(DTYPE)  # [R]
        b_loss = tl.where(b_w == 0, 0.0, b_w * b_loss)
    tl.store(p_loss + o_n, b_loss, m_n)


@triton.jit
def _backward(
    p_dlogits, p_grad, p_logits, p_target, p_weight, p_total, smoothing: tl.float64, N, C,
    PER_SAMPLE: tl.constexpr, MEAN: tl.constexpr,
    SOFT: tl.constexpr, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    o_n = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    m_n = o_n < N
    b_max, b_log, b_mass = _row_sums(p_logits, p_target, o_n, m_n, C, SOFT, R, B, DTYPE)  # [R] each
    b_scale = tl.full((R,), 1.0, DTYPE)
    if p_weight is not None:
        b_scale = tl.load(p_weight + o_n, m_n, other=0).to(DTYPE)
    if p_total is not None:
        total = tl.load(p_total)
        b_scale = tl.where(total == 0, 0.0, b_scale / total)
    if MEAN:
        b_scale = b_scale / N
    b_scale *= tl.load(p_grad + (o_n if PER_SAMPLE else o_n * 0), m_n, other=0.0).to(DTYPE)
    for o_start in range(0, C, B):
        o_c = o_start + tl.arange(0, B)
        b_z = _tile(p_logits, o_n, m_n, o_c, C, DTYPE)  # [R, B]
        b_q = _target(p_target, o_n, m_n, o_c, C, b_mass, smoothing, SOFT, DTYPE)  # [R, B]
        b_dz = b_mass[:, None] * tl.exp(b_z - b_max[:, None] - b_log[:, None]) - b_q
        b_dz = tl.where(b_scale[:, None] == 0, 0.0, b_scale[:, None] * b_dz)
        m = m_n[:, None] & (o_c < C)[None, :]
        tl.store(p_dlogits + o_n[:, None] * C + o_c[None, :], b_dz.to(p_dlogits.dtype.element_ty), m)


@triton.jit
def _row_sums(
    p_logits, p_target, o_n, m_n, C, SOFT: tl.constexpr, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr
):
    """max_c z_c, log Σ_c exp(z_c − max) and Σ_c target_c of R rows; the last is NaN for a label outside [0, C)."""
    b_max = tl.full((R,), float("-inf"), DTYPE)
    b_mass = tl.zeros((R,), DTYPE)
    for o_start in range(0, C, B):
        o_c = o_start + tl.arange(0, B)
        b_max = tl.maximum(b_max, tl.max(_tile(p_logits, o_n, m_n, o_c, C, DTYPE), 1))
        if SOFT:
            m = m_n[:, None] & (o_c < C)[None, :]
            b_t = tl.load(p_target + o_n[:, None] * C + o_c[None, :], m, other=0.0).to(DTYPE)  # [R, B]
            b_mass += tl.sum(b_t, 1)
    if not SOFT:
        b_y = tl.load(p_target + o_n, m_n, other=0)  # [R]
        b_mass = tl.where((b_y >= 0) & (b_y < C), 1.0, float("nan")).to(DTYPE)
    b_sum = tl.zeros((R, B), DTYPE)
    for o_start in range(0, C, B):
        o_c = o_start + tl.arange(0, B)
        b_sum += tl.exp(_tile(p_logits, o_n, m_n, o_c, C, DTYPE) - b_max[:, None])
    return b_max, tl.log(tl.sum(b_sum, 1)), b_mass


@triton.jit
def _tile(p_logits, o_n, m_n, o_c, C, DTYPE: tl.constexpr):
    """Logits [R, B]; −inf beyond the last class, so that its exponential is 0; 0 beyond the last row."""
    b_z = tl.load(p_logits + o_n[:, None] * C + o_c[None, :], m_n[:, None] & (o_c < C)[None, :], other=0.0)
    return tl.where((o_c < C)[None, :], b_z.to(DTYPE), float("-inf"))


@triton.jit
def _target(p_target, o_n, m_n, o_c, C, b_mass, smoothing, SOFT: tl.constexpr, DTYPE: tl.constexpr):
    """q = (1 − s)·t + s·Σt/C [R, B]; 0 beyond the last class."""
    if SOFT:
        m = m_n[:, None] & (o_c < C)[None, :]
        b_t = tl.load(p_target + o_n[:, None] * C + o_c[None, :], m, other=0.0).to(DTYPE)  # [R, B]
    else:
        b_y = tl.load(p_target + o_n, m_n, other=0)  # [R]
        b_t = tl.where(b_y[:, None] == o_c[None, :], b_mass[:, None], b_mass[:, None] * 0)  # [R, B]
    s = tl.full((1, 1), smoothing, DTYPE)
    return tl.where((o_c < C)[None, :], (1 - s) * b_t + s * b_mass[:, None] / C, 0.0)


def _launch(kernel, logits: Tensor, target: Tensor, *args, **options) -> None:
    n, c = logits.shape
    if n == 0:
        return
    block = min(triton.next_power_of_2(c), 1024)
    rows = max(1, 256 // block)
    with torch.cuda.device_of(logits):
        kernel[(triton.cdiv(n, rows),)](
            *args, n, c, SOFT=target.dim() == 2, R=rows, B=block, DTYPE=compute_dtype(logits), num_warps=4, **options
        )


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    loss = torch.empty(len(logits), dtype=dtype, device=logits.device)
    _launch(_forward, logits, target, loss, logits, target, weight, label_smoothing)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean" or (weight is None and len(loss) > 0):
        return loss.mean()
    total = loss.new_zeros(()) if weight is None else weight.sum(dtype=dtype)
    return torch.where(total == 0, 0.0, loss.sum() / total)


def weighted_cross_entropy_backward(
    grad: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    d_logits = torch.empty_like(logits)
    total = None
    if reduction == "weighted_mean" and weight is not None:
        total = weight.sum(dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    mean = reduction == "mean" or (reduction == "weighted_mean" and weight is None)
    _launch(
        _backward, logits, target, d_logits, grad, logits, target, weight, total, label_smoothing,
        PER_SAMPLE=reduction == "none", MEAN=mean,
    )  # fmt: skip
    return d_logits
