"""Argument checks shared by the operators; each message names what was given, where, and what would be valid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ro_fast.ops._torch_private import transformed

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
NORMS = ("linf", "l2")
_LARGEST = torch.finfo(torch.float32).max


def check_images(op: str, **tensors: Tensor) -> None:
    """All of one shape [N, ...], one dtype of DTYPES, one device; the others are compared with the first tensor."""
    (first, like), *others = tensors.items()
    if not isinstance(like, Tensor):
        raise TypeError(f"{op}: {first} is {type(like).__name__}; a torch tensor is needed")
    if like.dtype not in DTYPES:
        raise TypeError(f"{op}: {first} is {like.dtype}; float32, bfloat16 or float64 is needed")
    if like.dim() < 1:
        raise ValueError(f"{op}: {first} has no sample dimension; its shape should be [N, ...]")
    for name, tensor in others:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} is {type(tensor).__name__}; a torch tensor is needed")
        if tensor.shape != like.shape:
            raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}, {first} has {list(like.shape)}; they should agree")
        if tensor.dtype != like.dtype:
            raise TypeError(f"{op}: {name} is {tensor.dtype}, {first} is {like.dtype}; they should agree")
        if tensor.device != like.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, {first} on {like.device}; they should agree")


def check_per_sample(op: str, name: str, tensor: Tensor, like: Tensor) -> None:
    """A tensor with one value per sample: shape [N], on the device of ``like``."""
    if tensor.shape != like.shape[:1]:
        raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}; one value for each of {like.shape[0]} samples is needed")
    if tensor.device != like.device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, the samples on {like.device}; they should agree")


def check_real(op: str, name: str, tensor: Tensor) -> None:
    """Rejects complex numbers, whose imaginary part a cast would drop."""
    if tensor.is_complex():
        raise TypeError(f"{op}: {name} is {tensor.dtype}; real numbers are needed")


def check_out(op: str, out: Tensor, **others: Tensor) -> None:
    """An output is exactly an input itself or shares no memory with it: a shifted input would be overwritten before it's read."""
    for name, other in others.items():
        same = out.shape == other.shape and out.stride() == other.stride() and out.dtype == other.dtype
        if _overlap(out, other) and not (same and out.data_ptr() == other.data_ptr()):
            raise ValueError(f"{op}: out shares part of its memory with {name}; it should be {name} itself or not overlap it")


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two dense tensors share memory; False for others and for a tracer's tensors."""
    last = torch.channels_last
    dense = all(t.is_contiguous() or (t.dim() == 4 and t.is_contiguous(memory_format=last)) for t in (a, b))
    if not dense or transformed() or torch.compiler.is_compiling():
        return False
    ends = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (a, b)]
    return a.device == b.device and max(ends[0][0], ends[1][0]) < min(ends[0][1], ends[1][1])


def check_norm(op: str, norm: str) -> None:
    """One of NORMS."""
    if norm not in NORMS:
        raise ValueError(f"{op}: norm '{norm}' is unknown; available: {', '.join(NORMS)}")


def check_budget(op: str, name: str, value: float, norm: str, lo: float, hi: float) -> None:
    """Not negative, not NaN and, in L∞, not wider than the input range: 8 is usually 8/255 by mistake."""
    if not value >= 0:
        raise ValueError(f"{op}: {name} = {value:g} should be at least 0")
    if name == "alpha" and value > _LARGEST:  # infinity times the sign of a zero gradient is NaN
        raise ValueError(f"{op}: {name} = {value:g} should be finite in float32")
    if norm == "linf" and value > hi - lo:
        hint = f"; was {value:g}/255 = {value / 255:.4g} meant?" if hi - lo <= 1 < value <= 255 else ""
        raise ValueError(f"{op}: {name} = {value:g} is wider than the input range [{lo:g}, {hi:g}]{hint}")


def split_budget(
    op: str, name: str, value: float | Tensor, like: Tensor, norm: str, lo: float, hi: float
) -> tuple[float, Tensor | None]:
    """Splits a budget into the pair that the schemas take: a number, or a tensor with one value per sample.

    Per-sample values are not checked: that would synchronise with the device.
    """
    if isinstance(value, Tensor) and value.dim() > 0:
        check_per_sample(op, name, value, like)
        check_real(op, name, value)
        return 0.0, value.to(compute_dtype(like)).contiguous()
    number = float(value)
    check_budget(op, name, number, norm, lo, hi)
    return number, None


def check_range(op: str, lo: float, hi: float) -> None:
    """Requires a non-empty input range."""
    if not lo < hi or math.isnan(lo) or math.isnan(hi):
        raise ValueError(f"{op}: the input range [lo, hi] = [{lo:g}, {hi:g}] is empty; lo should be below hi")


def compute_dtype(t: Tensor) -> torch.dtype:
    """float64 stays float64; float32 and bfloat16 are computed in float32."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32
