"""Adds samples to count, mean and scatter by class; see ro_fast/ops/class_moments.py for the definition.

A stable sort of the labels makes each class's samples consecutive, ``bounds[c]`` to ``bounds[c + 1]`` of ``order``. A
program owns its outputs and processes its samples in order, in float64: no atomics, so the result is deterministic.
The scatter is centred on the mean of these samples, which is known by then, and gets one more row for the shift from the
previous mean to that one; the lower half of its symmetric tiles is computed and written twice. A label outside [0, C) is
left out: an error would have to synchronise.

Cost: N·D additions and N·D²/2 float64 multiply-adds without tensor cores; the scatter reads features D/T times,
mostly from cache.

# I/O: read features, labels, half of scatter; write count, mean, scatter
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._block import check_count


@triton.jit
def _mean(p_mean, p_features, p_order, p_bounds, D, R: tl.constexpr, B: tl.constexpr):
    c = tl.program_id(0).to(tl.int64)
    o_d = tl.program_id(1) * B + tl.arange(0, B)
    first = tl.load(p_bounds + c)
    last = tl.load(p_bounds + c + 1)
    b_sum = tl.zeros((R, B), tl.float64)
    for start in range(first, last, R):
        o_r = start + tl.arange(0, R)
        o_n = tl.load(p_order + o_r, o_r < last, other=0)  # [R]
        m = (o_r < last)[:, None] & (o_d < D)[None, :]
        b_sum += tl.load(p_features + o_n[:, None] * D + o_d[None, :], m, other=0.0).to(tl.float64)  # [R, B]
    count = tl.maximum(last - first, 1).to(tl.float64)
    tl.store(p_mean + c * D + o_d, tl.sum(b_sum, 0) / count, o_d < D)


@triton.jit
def _scatter(p_scatter, p_features, p_mean, p_shift, p_order, p_bounds, D, R: tl.constexpr, T: tl.constexpr):
    c = tl.program_id(0).to(tl.int64)
    if tl.program_id(1) >= tl.program_id(2):
        o_i = tl.program_id(1) * T + tl.arange(0, T)
        o_j = tl.program_id(2) * T + tl.arange(0, T)
        first = tl.load(p_bounds + c)
        last = tl.load(p_bounds + c + 1)
        b_sum = tl.zeros((T, T), tl.float64)
        for start in range(first, last, R):
            o_r = start + tl.arange(0, R)
            o_n = tl.load(p_order + o_r, o_r < last, other=0)  # [R]
            b_i = _centred(p_features, p_mean + c * D, o_n, o_r < last, o_i, D)  # [R, T]
            b_j = _centred(p_features, p_mean + c * D, o_n, o_r < last, o_j, D)  # [R, T]
            b_sum += tl.sum(b_i[:, :, None] * b_j[:, None, :], 0)
        p_tile = p_scatter + c * D * D
        m = (o_i < D)[:, None] & (o_j < D)[None, :]
        b_i = tl.load(p_shift + c * D + o_i, o_i < D, other=0.0)  # [T]
        b_j = tl.load(p_shift + c * D + o_j, o_j < D, other=0.0)  # [T]
        b_sum += b_i[:, None] * b_j[None, :]
        b_sum += tl.load(p_tile + o_i[:, None] * D + o_j[None, :], m, other=0.0)
        tl.store(p_tile + o_i[:, None] * D + o_j[None, :], b_sum, m)
        tl.store(p_tile + o_j[None, :] * D + o_i[:, None], b_sum, m)


@triton.jit
def _centred(p_features, p_mean, o_n, m_n, o_d, D):
    """f − mean [R, T] of one class's samples; 0 beyond the last sample and the last feature."""
    m = m_n[:, None] & (o_d < D)[None, :]
    b_f = tl.load(p_features + o_n[:, None] * D + o_d[None, :], m, other=0.0).to(tl.float64)  # [R, T]
    b_mean = tl.load(p_mean + o_d, o_d < D, other=0.0)  # [T]
    return tl.where(m, b_f - b_mean[None, :], 0.0)


def class_moments(count: Tensor, mean: Tensor, scatter: Tensor | None, features: Tensor, labels: Tensor) -> None:
    c, d = mean.shape
    check_count("class_moments", "a class", d if scatter is None else d * d)
    ordered, order = torch.sort(labels, stable=True)
    bounds = torch.searchsorted(ordered, torch.arange(c + 1, device=labels.device))
    own, own_mean = bounds.diff(), torch.zeros_like(mean)
    with torch.cuda.device_of(features):
        if d > 0:
            _mean[(c, triton.cdiv(d, 64))](own_mean, features, order, bounds, d, R=16, B=64, num_warps=4)
        share = own.to(torch.float64) / (count + own).clamp(min=1)  # [C]
        delta = torch.where(own.unsqueeze(1) > 0, own_mean - mean, 0.0)  # [C, D]
        if d > 0 and scatter is not None:
            shift = (count * share).sqrt().unsqueeze(1) * delta
            tiles = triton.cdiv(d, 16)
            _scatter[(c, tiles, tiles)](
                scatter, features, own_mean, shift, order, bounds, d, R=16, T=16, num_warps=4
            )  # fmt: skip
    mean += share.unsqueeze(1) * delta
    count += own
