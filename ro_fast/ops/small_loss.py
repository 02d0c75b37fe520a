"""Which losses of a batch are small, and a histogram of all of them, in one pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ro_fast.ops import _check, _register, backends

_SCHEMA = (
    "small_loss(Tensor loss, float threshold, Tensor? threshold_t, int bins, float lo, float hi) -> (Tensor, Tensor)"
)


def _reference(
    loss: Tensor,  # [N]
    threshold: float,
    threshold_t: Tensor | None,  # float64 scalar; replaces threshold
    bins: int,
    lo: float,
    hi: float,
) -> tuple[Tensor, Tensor]:
    value = loss.to(torch.float64)
    small = value < (threshold if threshold_t is None else threshold_t)
    bin_of = ((value - lo) * (bins / (hi - lo))).nan_to_num(nan=bins).clamp(0, bins - 1).to(torch.int64)  # truncation is ⌊·⌋
    counts = bin_of.new_zeros(bins).scatter_add_(0, bin_of, torch.ones_like(bin_of))
    return small, counts


def _kernel(loss: Tensor, *rest) -> tuple[Tensor, Tensor]:
    threshold_t, bins = rest[1], rest[2]
    if loss.dim() != 1 or bins < 1 or (threshold_t is not None and threshold_t.dim() != 0):
        raise ValueError(f"small_loss: loss {list(loss.shape)}, {bins} bins; [N], at least 1 and a scalar threshold are needed")
    return backends.select("small_loss", loss.device.type)(loss.contiguous(), *rest)


def _fake(
    loss: Tensor, threshold: float, threshold_t: Tensor | None, bins: int, lo: float, hi: float
) -> tuple[Tensor, Tensor]:
    return loss.new_empty(loss.shape, dtype=torch.bool), loss.new_empty(bins, dtype=torch.int64)


_register.define_slot(_SCHEMA, _reference)
_register.define_op(_SCHEMA, _kernel, _fake)


def small_loss(
    loss: Tensor,  # [N]
    threshold: float | Tensor,
    *,
    bins: int = 64,
    lo: float = 0.0,
    hi: float = 8.0,
) -> tuple[Tensor, Tensor]:
    """Which samples have a loss below a threshold, and how the losses of all of them are spread.

    ``small_n = [loss_n < threshold]``; ``counts_b = |{n: bin_n = b}|`` with
    ``bin_n = clamp(⌊(loss_n − lo)·bins/(hi − lo)⌋, 0, bins − 1)``. Both are decided in float64.

    Args:
        loss: [N], float32, bfloat16 or float64.
        threshold: a number, or a tensor of one on the device of ``loss`` (a quantile, say), which never leaves it.
        bins: number of bins of equal width between ``lo`` and ``hi``.
        lo, hi: range of the bins; losses below and above it count in the first and the last bin.

    Returns:
        ``small`` bool [N] and ``counts`` int64 [bins], which sum to N. A NaN is not small and counts in the last bin.
        No gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes, devices or ranges that don't fit, naming both values.

    Deterministic. Nothing waits for the device.

    >>> small_loss(torch.tensor([0.1, 1.4, 1.5, 9.0]), 1.5, bins=4)
    (tensor([ True,  True, False, False]), tensor([3, 0, 0, 1]))
    """
    op = "small_loss"
    _check.check_images(op, loss=loss)
    if loss.dim() != 1:
        raise ValueError(f"{op}: loss has shape {list(loss.shape)}; [N] is needed")
    if bins < 1:
        raise ValueError(f"{op}: bins = {bins} should be at least 1")
    if not (lo < hi and math.isfinite(hi - lo)):
        raise ValueError(f"{op}: the range [lo, hi] = [{lo:g}, {hi:g}] should be finite with lo below hi")
    number, tensor = _split_threshold(op, threshold, loss)
    with torch.no_grad():
        return torch.ops.ro_fast.small_loss(loss, number, tensor, bins, lo, hi)


def _split_threshold(op: str, threshold: float | Tensor, loss: Tensor) -> tuple[float, Tensor | None]:
    """The pair the schema takes: a number, or a float64 scalar tensor."""
    if not isinstance(threshold, Tensor):
        return float(threshold), None
    if threshold.dim() != 0:
        raise ValueError(f"{op}: threshold has shape {list(threshold.shape)}; a number or a tensor of shape [] is needed")
    if threshold.device != loss.device:
        raise ValueError(f"{op}: threshold is on {threshold.device}, loss on {loss.device}; they should agree")
    return 0.0, threshold.detach().to(torch.float64)
