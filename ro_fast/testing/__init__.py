"""Shared by tests and benchmarks of the operators: sample inputs, tolerances, the comparison with float64."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.testing import attack_ops, feature_ops, loss_ops, network_ops
from ro_fast.testing.compare import TOLERANCE, assert_close, backends_for
from ro_fast.testing.sample import Draw, Sample, outputs

__all__ = ["DIFFERENTIABLE", "LAYOUTS", "TOLERANCE", "Sample", "assert_close", "backends_for", "outputs", "samples"]

DIFFERENTIABLE = loss_ops.DIFFERENTIABLE
LAYOUTS = ("contiguous", "channels_last", "strided")

# Operator -> function that generates calls of it.
CASES = attack_ops.CASES | loss_ops.CASES | feature_ops.CASES | network_ops.CASES


def samples(
    op_name: str, dtype: torch.dtype = torch.float32, device: str = "cpu", layout: str = "contiguous"
) -> list[Sample]:
    """Small inputs of an operator that together reach each of its branches.

    Args:
        op_name: one of ``ro_fast.ops.OPS``.
        dtype: that of images, logits or features.
        device: where to put them.
        layout: one of LAYOUTS; channels_last only affects four-dimensional tensors.
    """
    return [_lay_out(s, layout) for s in CASES[op_name](Draw(dtype, device))]


def _lay_out(sample: Sample, layout: str) -> Sample:
    def strided(t: Tensor) -> Tensor:
        wide = t.new_zeros(*t.shape, 2)
        wide[..., 0] = t
        return wide[..., 0]

    def channels_last(t: Tensor) -> Tensor:
        return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t

    if layout == "contiguous":
        return sample
    return sample.map({"channels_last": channels_last, "strided": strided}[layout])
