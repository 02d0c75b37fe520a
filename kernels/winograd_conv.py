"""3×3 convolution by Winograd's F(2×2, 3×3); see ro_fast/ops/winograd_conv.py for the definition.

Both transforms are small matrices, (Bᵀ ⊗ Bᵀ) [16, 16] and (Aᵀ ⊗ Aᵀ) [4, 16], applied to the pixels of a tile; a program takes one
tile and B channels. Between them stand 16 matrix products, which are torch's. A transposed convolution reads and writes the
pixels of a tile from the last to the first.

# I/O: in: read x; write the 16 planes. out: read the planes, bias; write y
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import compute_dtype, rows_grid


@triton.jit
def _pixels(H, W, SIDE: tl.constexpr, BEFORE: tl.constexpr, MIRRORED: tl.constexpr):
    """Places [SIDE²] of this program's tile among the pixels of all images, and which of them lie inside."""
    across, down = (W + 1) // 2, (H + 1) // 2
    tile = tl.program_id(0).to(tl.int64)
    n, i, j = tile // (down * across), tile % (down * across) // across, tile % across
    o_k = tl.arange(0, SIDE * SIDE)
    if MIRRORED:
        o_k = SIDE * SIDE - 1 - o_k
    o_y, o_x = 2 * i - BEFORE + o_k // SIDE, 2 * j - BEFORE + o_k % SIDE
    return (n * H + o_y) * W + o_x, (o_y >= 0) & (o_y < H) & (o_x >= 0) & (o_x < W)


@triton.jit
def _in(p_v, p_x, p_matrix, H, W, C, B: tl.constexpr, MIRRORED: tl.constexpr, DTYPE: tl.constexpr):
    o_pixel, m_pixel = _pixels(H, W, 4, 1, MIRRORED)
    o_c, o_k = tl.program_id(1) * B + tl.arange(0, B), tl.arange(0, 16)
    m = m_pixel[:, None] & (o_c < C)[None, :]
    b_d = tl.load(p_x + o_pixel[:, None] * C + o_c[None, :], m, other=0.0).to(DTYPE)  # [16, B]
    b_matrix = tl.load(p_matrix + o_k[:, None] * 16 + o_k[None, :])  # [16, 16]
    b_v = tl.sum(b_matrix[:, :, None] * b_d[None, :, :], 1)  # [16, B]
    o_v = (o_k.to(tl.int64)[:, None] * tl.num_programs(0) + tl.program_id(0)) * C + o_c[None, :]
    tl.store(p_v + o_v, b_v, (o_c < C)[None, :])


@triton.jit
def _out(
    p_out, p_m, p_bias, p_matrix, H, W, C, B: tl.constexpr, MIRRORED: tl.constexpr, RELU: tl.constexpr, DTYPE: tl.constexpr
):
    o_pixel, m_pixel = _pixels(H, W, 2, 0, MIRRORED)
    o_c, o_k, o_y = tl.program_id(1) * B + tl.arange(0, B), tl.arange(0, 16), tl.arange(0, 4)
    m_c = (o_c < C)[None, :]
    o_m = (o_k.to(tl.int64)[:, None] * tl.num_programs(0) + tl.program_id(0)) * C + o_c[None, :]
    b_m = tl.load(p_m + o_m, m_c, other=0.0)  # [16, B]
    b_matrix = tl.load(p_matrix + o_y[:, None] * 16 + o_k[None, :])  # [4, 16]
    b_y = tl.sum(b_matrix[:, :, None] * b_m[None, :, :], 1)  # [4, B]
    if p_bias is not None:
        b_y += tl.load(p_bias + o_c, o_c < C, other=0.0)[None, :]
    if RELU:
        b_y = tl.where(b_y <= 0, 0.0, b_y)  # NaN passes
    o = o_pixel[:, None] * C + o_c[None, :]
    tl.store(p_out + o, b_y.to(p_out.dtype.element_ty), m_pixel[:, None] & m_c)


def winograd_conv(out: Tensor, x: Tensor, weights: Tensor, bias: Tensor | None, relu: bool, transposed: bool) -> None:
    images, channels, height, width = x.shape
    outputs = out.shape[1]
    tiles = rows_grid("winograd_conv", images * ((height + 1) // 2) * ((width + 1) // 2))
    if tiles == 0 or outputs == 0:
        return
    before = weights.new_tensor(((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)))
    after = weights.new_tensor(((1, 1, 1, 0), (0, 1, -1, -1)))
    v = weights.new_empty(16, tiles, channels)
    block, dtype = 16, compute_dtype(x)
    with torch.cuda.device_of(x):
        grid = tiles, triton.cdiv(channels, block)
        _in[grid](v, x, torch.kron(before, before), height, width, channels, B=block, MIRRORED=transposed, DTYPE=dtype)
        with torch.autocast(x.device.type, enabled=False):
            m = torch.bmm(v, weights.transpose(1, 2) if transposed else weights)
        grid, matrix = (tiles, triton.cdiv(outputs, block)), torch.kron(after, after)
        _out[grid](
            out, m, bias, matrix, height, width, outputs, B=block, MIRRORED=transposed, RELU=relu, DTYPE=dtype
        )  # fmt: skip
