"""ReLU of a per-channel affine map with its mask as bits; see ro_fast/ops/affine_relu.py for the definition.

A value's channel is (i / inner) mod C: inner is 1 in channels-last order, otherwise H·W. A program handles B bytes
of the mask, thus 8·B values.

# I/O: forward: read x; write y and a bit. backward: read grad, a bit, add; write grad_x
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import compute_dtype


@triton.jit
def _offsets(size, B: tl.constexpr):
    """Offsets of bytes [B] and of their values [B, 8], each with its mask."""
    o_byte = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    o = o_byte[:, None] * 8 + tl.arange(0, 8)[None, :]
    return o_byte, o_byte * 8 < size, o, o < size


@triton.jit
def _forward(p_out, p_bits, p_x, p_scale, p_shift, size, inner, C, B: tl.constexpr, DTYPE: tl.constexpr):
    o_byte, m_byte, o, m = _offsets(size, B)
    o_c = o // inner % C
    b_y = tl.load(p_x + o, m, other=0.0).to(DTYPE)  # [B, 8]
    if p_scale is not None:
        b_y = b_y * tl.load(p_scale + o_c, m, other=0.0)
    if p_shift is not None:
        b_y = b_y + tl.load(p_shift + o_c, m, other=0.0)
    b_stays = (b_y <= 0) | (m == 0)  # false for NaN
    b_bits = tl.sum(tl.where(b_stays, 0, 1) << tl.arange(0, 8)[None, :], 1)  # [B]
    tl.store(p_bits + o_byte, b_bits.to(tl.uint8), m_byte)
    tl.store(p_out + o, tl.where(b_stays, 0.0, b_y).to(p_out.dtype.element_ty), m)


@triton.jit
def _backward(p_out, p_grad, p_bits, p_scale, p_add, size, inner, C, B: tl.constexpr, DTYPE: tl.constexpr):
    o_byte, m_byte, o, m = _offsets(size, B)
    b_g = tl.load(p_grad + o, m, other=0.0).to(DTYPE)  # [B, 8]
    if p_scale is not None:
        b_g = b_g * tl.load(p_scale + o // inner % C, m, other=0.0)
    b_bits = tl.load(p_bits + o_byte, m_byte, other=0).to(tl.int32)  # [B]
    b_g = tl.where(((b_bits[:, None] >> tl.arange(0, 8)[None, :]) & 1) != 0, b_g, 0.0)
    if p_add is not None:
        b_g += tl.load(p_add + o, m, other=0.0).to(DTYPE)
    tl.store(p_out + o, b_g.to(p_out.dtype.element_ty), m)


def _launch(kernel, like: Tensor, *args: Tensor | None) -> None:
    size, channels = like.numel(), like.shape[1]
    if size == 0:
        return
    inner = 1 if like.stride(1) == 1 else size // (like.shape[0] * channels)
    block = 128
    with torch.cuda.device_of(like):
        kernel[(triton.cdiv(size, 8 * block),)](
            *args, size, inner, channels, B=block, DTYPE=compute_dtype(like), num_warps=4
        )


def affine_relu(out: Tensor, bits: Tensor, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> None:
    _launch(_forward, x, out, bits, x, scale, shift)


def affine_relu_backward(out: Tensor, grad: Tensor, bits: Tensor, scale: Tensor | None, add: Tensor | None) -> None:
    _launch(_backward, grad, out, grad, bits, scale, add)
