"""KL divergence between two rows of logits and its gradients; see ro_fast/ops/weighted_kl.py for the definition.

A program handles one whole row of both, B ≥ C classes. Sums over samples are left to torch.

# I/O: forward: read both logits, weight; write loss. backward: read grad too; write both gradients
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import compute_dtype, rows_grid


@triton.jit
def _log_softmax(p_row, C, B: tl.constexpr, DTYPE: tl.constexpr):
    """[B]; −inf beyond the last class."""
    o_c = tl.arange(0, B)
    b_z = tl.load(p_row + o_c, o_c < C, other=0.0).to(DTYPE)
    b_z = tl.where(o_c < C, b_z, float("-inf"))
    b_z = b_z - tl.max(b_z, 0)
    return b_z - tl.log(tl.sum(tl.exp(b_z), 0))


@triton.jit
def _terms(b_log_p, b_log_t, B: tl.constexpr, C):
    """t·(log t − log p) [B], 0 where t is."""
    b_t = tl.exp(b_log_t)
    return tl.where((b_t == 0) | (tl.arange(0, B) >= C), 0.0, b_t * (b_log_t - b_log_p))


@triton.jit
def _forward(p_loss, p_logits, p_target, p_weight, C, B: tl.constexpr, DTYPE: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    b_log_p = _log_softmax(p_logits + n * C, C, B, DTYPE)
    b_log_t = _log_softmax(p_target + n * C, C, B, DTYPE)
    loss = tl.sum(_terms(b_log_p, b_log_t, B, C), 0)
    if p_weight is not None:
        w = tl.load(p_weight + n).to(DTYPE)
        loss = tl.where(w == 0, 0.0, w * loss)
    tl.store(p_loss + n, loss)


@triton.jit
def _backward(p_dlogits, p_dtarget, p_grad, p_logits, p_target, p_weight, C, B: tl.constexpr, DTYPE: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    b_log_p = _log_softmax(p_logits + n * C, C, B, DTYPE)
    b_log_t = _log_softmax(p_target + n * C, C, B, DTYPE)
    b_terms = _terms(b_log_p, b_log_t, B, C)
    scale = tl.load(p_grad + n).to(DTYPE)
    if p_weight is not None:
        scale *= tl.load(p_weight + n).to(DTYPE)
    o_c = tl.arange(0, B)
    b_t = tl.exp(b_log_t)
    b_dz = tl.where(scale == 0, 0.0, scale * (tl.exp(b_log_p) - b_t))
    b_dt = tl.where(scale == 0, 0.0, scale * (b_terms - b_t * tl.sum(b_terms, 0)))
    tl.store(p_dlogits + n * C + o_c, b_dz.to(p_dlogits.dtype.element_ty), o_c < C)
    tl.store(p_dtarget + n * C + o_c, b_dt.to(p_dtarget.dtype.element_ty), o_c < C)


def _launch(kernel, logits: Tensor, *args: Tensor | None) -> None:
    n, c = logits.shape
    if n == 0:
        return
    with torch.cuda.device_of(logits):
        kernel[(rows_grid("weighted_kl", n),)](*args, c, B=triton.next_power_of_2(c), DTYPE=compute_dtype(logits), num_warps=4)


def weighted_kl(logits: Tensor, target_logits: Tensor, weight: Tensor | None) -> Tensor:
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    loss = torch.empty(len(logits), dtype=dtype, device=logits.device)
    _launch(_forward, logits, loss, logits, target_logits, weight)
    return loss


def weighted_kl_backward(
    grad: Tensor, logits: Tensor, target_logits: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    d_logits, d_target = torch.empty_like(logits), torch.empty_like(target_logits)
    _launch(_backward, logits, d_logits, d_target, grad, logits, target_logits, weight)
    return d_logits, d_target
