"""Losses that depend on a few classes per row, and their gradients; see ro_fast/ops/logit_losses.py for the definitions.

A program handles one whole row, B ≥ C classes. Sums over samples are left to torch. A label outside [0, C) makes its loss and
gradient NaN, as does NaN in the row: an error would have to synchronise.

# I/O: forward: read logits, target, weight; write loss. backward: read grad too; write d_logits
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import compute_dtype, rows_grid

_KINDS = {"boosted_cross_entropy": 0, "margin_loss": 1, "dlr_loss": 2}


@triton.jit
def _at(b_z, o_c, index):
    """z of one class."""
    return tl.sum(tl.where(o_c == index, b_z, 0.0), 0)


@triton.jit
def _first_max(b_z, o_c, B: tl.constexpr):
    """The first class with the greatest z."""
    return tl.min(tl.where(b_z == tl.max(b_z, 0), o_c, B - 1), 0)


@triton.jit
def _log_softmax(b_z, m):
    """log softmax over the classes where m holds; −inf elsewhere."""
    b_z = tl.where(m, b_z, float("-inf"))
    b_z = b_z - tl.max(b_z, 0)
    return b_z - tl.log(tl.sum(tl.exp(b_z), 0))


@triton.jit
def _row(
    p_logits, p_target, p_target_class, n, C,
    KIND: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """ℓ of one row, or ∇ℓ [B]."""
    o_c = tl.arange(0, B)
    m_c = o_c < C
    b_z = tl.load(p_logits + n * C + o_c, m_c, other=0.0).to(DTYPE)  # [B]
    y = tl.load(p_target + n)
    wrong = (tl.sum(tl.where(m_c & (b_z != b_z), 1, 0), 0) > 0) | (y < 0) | (y >= C)
    if p_target_class is not None:
        to = tl.load(p_target_class + n)
        wrong = wrong | (to < 0) | (to >= C)
    b_low = tl.where(m_c, b_z, float("-inf"))
    rival = _first_max(tl.where(o_c == y, float("-inf"), b_low), o_c, B)
    b_y = tl.where(o_c == y, 1.0, 0.0).to(DTYPE)
    if KIND == 0:
        b_all = _log_softmax(b_z, m_c)
        if GRADIENT:
            b_out = 2 * tl.exp(b_all) - b_y - tl.exp(_log_softmax(b_z, m_c & (o_c != rival)))
        else:
            b_out = _log_ratio(b_z, m_c, rival, o_c) - _at(b_all, o_c, y)
    elif KIND == 1:
        b_out = tl.where(o_c == rival, 1.0, 0.0).to(DTYPE) - b_y if GRADIENT else _at(b_z, o_c, rival) - _at(b_z, o_c, y)
    else:
        first = _first_max(b_low, o_c, B)
        b_left = tl.where(o_c == first, float("-inf"), b_low)
        second = _first_max(b_left, o_c, B)
        b_left = tl.where(o_c == second, float("-inf"), b_left)
        third = _first_max(b_left, o_c, B)
        b_third = tl.where(o_c == third, 1.0, 0.0).to(DTYPE)
        upper = rival
        if p_target_class is not None:
            upper = to.to(tl.int32)
            fourth = _first_max(tl.where(o_c == third, float("-inf"), b_left), o_c, B)
            b_third = (b_third + tl.where(o_c == fourth, 1.0, 0.0).to(DTYPE)) / 2
        b_above = tl.where(o_c == upper, 1.0, 0.0).to(DTYPE) - b_y
        b_below = tl.where(o_c == first, 1.0, 0.0).to(DTYPE) - b_third
        denominator = tl.sum(tl.where(b_below == 0, 0.0, b_below * b_z), 0) + 1e-12
        loss = tl.sum(tl.where(b_above == 0, 0.0, b_above * b_z), 0) / denominator
        b_out = (b_above - loss * b_below) / denominator if GRADIENT else loss
    return tl.where(wrong, float("nan"), b_out)


@triton.jit
def _log_ratio(b_z, m, rival, o_c):
    """log Σ exp(z) − log Σ_{c≠rival} exp(z_c)."""
    b_low = tl.where(m, b_z, float("-inf"))
    top = tl.max(b_low, 0)
    b_rest = tl.where(o_c == rival, float("-inf"), b_low)
    top_rest = tl.max(b_rest, 0)
    return (top - top_rest) + tl.log(tl.sum(tl.exp(b_low - top), 0)) - tl.log(tl.sum(tl.exp(b_rest - top_rest), 0))


@triton.jit
def _forward(
    p_loss, p_logits, p_target, p_target_class, p_weight, C, KIND: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    loss = _row(p_logits, p_target, p_target_class, n, C, KIND, B, DTYPE, False)
    if p_weight is not None:
        w = tl.load(p_weight + n).to(DTYPE)
        loss = tl.where(w == 0, 0.0, w * loss)
    tl.store(p_loss + n, loss)


@triton.jit
def _backward(
    p_dlogits, p_grad, p_logits, p_target, p_target_class, p_weight, C,
    KIND: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    b_g = _row(p_logits, p_target, p_target_class, n, C, KIND, B, DTYPE, True)  # [B]
    scale = tl.load(p_grad + n).to(DTYPE)
    if p_weight is not None:
        scale *= tl.load(p_weight + n).to(DTYPE)
    o_c = tl.arange(0, B)
    b_g = tl.where(scale == 0, 0.0, scale * b_g)
    tl.store(p_dlogits + n * C + o_c, b_g.to(p_dlogits.dtype.element_ty), o_c < C)


def _launch(kernel, kind: int, logits: Tensor, *args: Tensor | None) -> None:
    n, c = logits.shape
    if n == 0:
        return
    grid = (rows_grid("logit_losses", n),)
    with torch.cuda.device_of(logits):
        kernel[grid](*args, c, KIND=kind, B=triton.next_power_of_2(c), DTYPE=compute_dtype(logits), num_warps=4)


def _losses(kind: int, logits: Tensor, target: Tensor, target_class: Tensor | None, weight: Tensor | None) -> Tensor:
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    loss = torch.empty(len(logits), dtype=dtype, device=logits.device)
    _launch(_forward, kind, logits, loss, logits, target, target_class, weight)
    return loss


def _gradients(
    kind: int, grad: Tensor, logits: Tensor, target: Tensor, target_class: Tensor | None, weight: Tensor | None
) -> Tensor:
    d_logits = torch.empty_like(logits)
    _launch(_backward, kind, logits, d_logits, grad, logits, target, target_class, weight)
    return d_logits


boosted_cross_entropy, margin_loss, dlr_loss = (functools.partial(_losses, kind) for kind in _KINDS.values())
boosted_cross_entropy_backward, margin_loss_backward, dlr_loss_backward = (
    functools.partial(_gradients, kind) for kind in _KINDS.values()
)
