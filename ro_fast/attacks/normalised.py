"""Wraps a network of normalised inputs as one of inputs in [0, 1], so that budgets and ranges are those of the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """``scale·x + shift``, each a number or [C, 1, 1], in the input's dtype and on its device."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor | float, shift: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:  # [N, ...]
        return x * self.scale.to(x) + self.shift.to(x)


def normalised(model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> nn.Sequential:
    """``x ↦ model((x − mean)/std)``: takes inputs before normalisation, usually in [0, 1], for a model of normalised inputs.

    Attacks and :func:`ro_fast.evaluation.evaluate_model` then measure eps and steps as papers do. Create it once and keep it:
    what is known about a network is cached per wrapper.

    Args:
        model: a network of normalised inputs.
        mean, std: of the normalisation, a number or one per channel [C] of images [N, C, H, W]; std above 0.

    Raises:
        ValueError: if the lengths differ, or a std is not above 0.

    >>> model = normalised(nn.Flatten(), (0.5, 0.4), (0.25, 0.2))
    >>> model(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    tensor([[ 2., -2.]])
    """
    means, stds = (torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in (mean, std))
    if len(means) != len(stds) and 1 not in (len(means), len(stds)):
        raise ValueError(f"normalised: mean has {len(means)} values and std {len(stds)}; one of each per channel is needed")
    if not (bool((stds > 0).all()) and bool(stds.isfinite().all()) and bool(means.isfinite().all())):
        raise ValueError(f"normalised: std is {std} and mean {mean}; finite numbers, std above 0, are needed")
    scale, shift = 1 / stds, -means / stds
    if max(len(means), len(stds)) == 1:
        return nn.Sequential(Affine(float(scale), float(shift)), model)
    return nn.Sequential(Affine(scale.view(-1, 1, 1), shift.view(-1, 1, 1)), model)
