"""All steps of L∞ PGD on a ReLU MLP; see ro_fast/ops/pgd_mlp.py for the definition.

A program takes R samples through all steps. Their x_adv, hidden values and logits are in global memory that no other
program touches, so they stay in its caches; a barrier separates each write from the reads of other threads. Hidden
layers are padded to one width H with zero weights, whose outputs are 0, so that one loop handles any number of layers.
A layer's gradient overwrites its hidden values, tile by tile, after the ReLU's mask has been read from them.

Cost: 4·N·K·Σ in·out flops, by tl.dot in full precision (``out_dtype`` is given since Triton 3.6 assumes float32 even
if operands and sum are float64, and refuses); every program reads all weights twice per step, mostly from L2.

# I/O: read x, y, noise, parameters; write out
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import check_count, compute_dtype, per_sample, step_linf
from .pgd_init import pgd_init


@triton.jit
def _kernel(
    p_adv, p_x, p_y, p_hidden, p_logits, p_first, p_first_bias, p_inner, p_inner_bias, p_last, p_last_bias,
    eps: tl.float64, alpha: tl.float64, p_eps, p_alpha, steps, lo: tl.float64, hi: tl.float64, N: tl.int64, D, H, C, layers,
    DEEP: tl.constexpr, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    o_n = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    m_n = o_n < N
    p_final = p_hidden + (layers - 2) * N * H  # the last layer's input
    for _ in range(steps):
        if DEEP:
            _forward(p_hidden, p_adv, p_first, p_first_bias, o_n, m_n, H, D, True, R, B, DTYPE)
            for i in range(layers - 2):
                p_in = p_hidden + i * N * H
                p_w = p_inner + i * H * H
                _forward(p_in + N * H, p_in, p_w, p_inner_bias + i * H, o_n, m_n, H, H, True, R, B, DTYPE)
            _forward(p_logits, p_final, p_last, p_last_bias, o_n, m_n, C, H, False, R, B, DTYPE)
        else:
            _forward(p_logits, p_adv, p_last, p_last_bias, o_n, m_n, C, D, False, R, B, DTYPE)
        _cross_entropy_backward(p_logits, p_y, o_n, m_n, C, R, B, DTYPE)
        if DEEP:
            _hidden_backward(p_final, p_logits, p_last, o_n, m_n, C, H, R, B, DTYPE)
            for back in range(layers - 2):
                i = layers - 3 - back
                p_h = p_hidden + i * N * H
                _hidden_backward(p_h, p_h + N * H, p_inner + i * H * H, o_n, m_n, H, H, R, B, DTYPE)
            _step(p_adv, p_x, p_hidden, p_first, eps, alpha, p_eps, p_alpha, lo, hi, o_n, m_n, H, D, R, B, DTYPE)
        else:
            _step(p_adv, p_x, p_logits, p_last, eps, alpha, p_eps, p_alpha, lo, hi, o_n, m_n, C, D, R, B, DTYPE)


@triton.jit
def _forward(
    p_out, p_in, p_w, p_bias, o_n, m_n, M, K, RELU: tl.constexpr, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr
):
    """out[n, m] = bias[m] + Σ_k in[n, k]·w[m, k], through a NaN-preserving ReLU if RELU."""
    for o_start in range(0, M, B):
        o_m = o_start + tl.arange(0, B)
        b_sum = tl.zeros((R, B), DTYPE)
        for k_start in range(0, K, B):
            o_k = k_start + tl.arange(0, B)
            b_in = tl.load(p_in + o_n[:, None] * K + o_k[None, :], m_n[:, None] & (o_k < K)[None, :], other=0.0)  # [R, B]
            m_w = (o_k < K)[:, None] & (o_m < M)[None, :]
            b_w = tl.load(p_w + o_m[None, :] * K + o_k[:, None], m_w, other=0.0)  # [B, B], k first
            b_sum = tl.dot(b_in, b_w, b_sum, input_precision="ieee", out_dtype=DTYPE)
        b_sum += tl.load(p_bias + o_m, o_m < M, other=0.0)[None, :]
        if RELU:
            b_sum = tl.where(b_sum < 0, 0.0, b_sum)
        tl.store(p_out + o_n[:, None] * M + o_m[None, :], b_sum, m_n[:, None] & (o_m < M)[None, :])
    tl.debug_barrier()


@triton.jit
def _cross_entropy_backward(p_logits, p_y, o_n, m_n, C, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr):
    """logits ← softmax(logits) − onehot(y); a label outside [0, C) matches no class."""
    b_max = tl.full((R, B), float("-inf"), DTYPE)
    for o_start in range(0, C, B):
        b_z, _, _ = _logits(p_logits, o_n, m_n, o_start, C, B)
        b_max = tl.maximum(b_max, b_z)
    b_max = tl.max(b_max, 1)  # [R]
    b_sum = tl.zeros((R, B), DTYPE)
    for o_start in range(0, C, B):
        b_z, _, _ = _logits(p_logits, o_n, m_n, o_start, C, B)
        b_sum += tl.exp(b_z - b_max[:, None])
    b_sum = tl.sum(b_sum, 1)  # [R], NaN if a logit is
    b_y = tl.load(p_y + o_n, m_n, other=0)  # [R]
    for o_start in range(0, C, B):
        b_z, o_c, m = _logits(p_logits, o_n, m_n, o_start, C, B)
        b_p = tl.exp(b_z - b_max[:, None]) / b_sum[:, None]
        b_p -= tl.where(o_c[None, :] == b_y[:, None], 1.0, 0.0).to(DTYPE)
        tl.store(p_logits + o_n[:, None] * C + o_c[None, :], b_p, m)
    tl.debug_barrier()


@triton.jit
def _logits(p_logits, o_n, m_n, o_start, C, B: tl.constexpr):
    """One block of classes [R, B], −∞ beyond the last, with its classes and mask."""
    o_c = o_start + tl.arange(0, B)
    m = m_n[:, None] & (o_c < C)[None, :]
    b_z = tl.load(p_logits + o_n[:, None] * C + o_c[None, :], m, other=float("-inf"))  # [R, B]
    return tl.where(m_n[:, None], b_z, 0.0), o_c, m


@triton.jit
def _gradient(p_grad, p_w, o_n, m_n, o_k, M, K, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr):
    """Σ_m grad[n, m]·w[m, k] [R, B]."""
    b_sum = tl.zeros((R, B), DTYPE)
    for o_start in range(0, M, B):
        o_m = o_start + tl.arange(0, B)
        b_grad = tl.load(p_grad + o_n[:, None] * M + o_m[None, :], m_n[:, None] & (o_m < M)[None, :], other=0.0)  # [R, B]
        m_w = (o_m < M)[:, None] & (o_k < K)[None, :]
        b_w = tl.load(p_w + o_m[:, None] * K + o_k[None, :], m_w, other=0.0)  # [B, B], m first
        b_sum = tl.dot(b_grad, b_w, b_sum, input_precision="ieee", out_dtype=DTYPE)
    return b_sum


@triton.jit
def _hidden_backward(p_h, p_grad, p_w, o_n, m_n, M, K, R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr):
    """h ← wᵀ·grad where h > 0, else 0."""
    for o_start in range(0, K, B):
        o_k = o_start + tl.arange(0, B)
        p_tile = p_h + o_n[:, None] * K + o_k[None, :]
        m = m_n[:, None] & (o_k < K)[None, :]
        b_grad = _gradient(p_grad, p_w, o_n, m_n, o_k, M, K, R, B, DTYPE)  # [R, B]
        tl.store(p_tile, tl.where(tl.load(p_tile, m, other=0.0) <= 0, 0.0, b_grad), m)
    tl.debug_barrier()


@triton.jit
def _step(
    p_adv, p_x, p_grad, p_w, eps, alpha, p_eps, p_alpha, lo, hi, o_n, m_n, M, D,
    R: tl.constexpr, B: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """x_adv ← the L∞ step along wᵀ·grad."""
    b_eps = per_sample(eps, p_eps, o_n, m_n, DTYPE)[:, None]  # [R, 1] or [1, 1]
    b_alpha = per_sample(alpha, p_alpha, o_n, m_n, DTYPE)[:, None]
    for o_start in range(0, D, B):
        o_d = o_start + tl.arange(0, B)
        o = o_n[:, None] * D + o_d[None, :]
        m = m_n[:, None] & (o_d < D)[None, :]
        b_g = _gradient(p_grad, p_w, o_n, m_n, o_d, M, D, R, B, DTYPE)  # [R, B]
        b_adv = tl.load(p_adv + o, m, other=0.0)  # [R, B]
        b_x = tl.load(p_x + o, m, other=0.0)  # [R, B]
        tl.store(p_adv + o, step_linf(b_adv, b_x, b_g, b_eps, b_alpha, lo, hi, DTYPE), m)
    tl.debug_barrier()


def pgd_mlp(
    x: Tensor,
    y: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    noise: Tensor | None,
    eps: float,
    alpha: float,
    eps_n: Tensor | None,
    alpha_n: Tensor | None,
    steps: int,
    lo: float,
    hi: float,
) -> Tensor:
    (n, d), layers, dtype = x.shape, len(weights), torch.float64 if x.dtype == torch.float64 else torch.float32
    centre, x_adv = x.to(dtype), x.to(dtype, copy=True)
    if noise is not None:
        pgd_init(x_adv, centre, noise, eps, eps_n, "linf", lo, hi)
    if n == 0 or steps == 0 or d == 0:
        return x_adv.to(x.dtype)
    classes = len(weights[-1])
    width = max([len(w) for w in weights[:-1]], default=0)  # H
    check_count("pgd_mlp", "the layers' weights", max(width * d, max(layers - 2, 0) * width**2, classes * max(width, d)))

    def padded(layer: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        w, b = x_adv.new_zeros(rows, columns), x_adv.new_zeros(rows)
        w[: weights[layer].shape[0], : weights[layer].shape[1]] = weights[layer]
        b[: len(biases[layer])] = biases[layer]
        return w, b

    first, first_bias = padded(0, width, d) if layers > 1 else (x_adv.new_empty(0), x_adv.new_empty(0))
    inner, inner_bias = x_adv.new_empty(max(layers - 2, 0), width, width), x_adv.new_empty(max(layers - 2, 0), width)
    for i in range(layers - 2):
        inner[i], inner_bias[i] = padded(i + 1, width, width)
    last, last_bias = padded(layers - 1, classes, width if layers > 1 else d)
    hidden, logits = x_adv.new_empty(layers - 1, n, width), x_adv.new_empty(n, classes)
    with torch.cuda.device_of(x):
        _kernel[(triton.cdiv(n, 16),)](
            x_adv, centre, y, hidden, logits, first, first_bias, inner, inner_bias, last, last_bias,
            eps, alpha, eps_n, alpha_n, steps, lo, hi, n, d, width, classes, layers,
            DEEP=layers > 1, R=16, B=64, DTYPE=compute_dtype(x), num_warps=4,
        )  # fmt: skip
    return x_adv.to(x.dtype)
