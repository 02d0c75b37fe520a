"""Normalisation as the model's first layer, so that attacks and data stay in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ro_fast.errors import InputError


class Normalize(nn.Module):
    """Standardises each channel: (x − mean) / std.

    Args:
        image_shape: (C, H, W), or (D,) for vectors, which share one mean and std.
        mean: one value per channel, or one for all, in input units.
        std: likewise, above 0.

    Raises:
        InputError: on a mean or std of wrong length, std ≤ 0, or an input with a different number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.channels = image_shape[0]
        per_channel = self.channels if len(image_shape) == 3 else 1
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, per_channel):
                raise InputError(f"model.{name} has {len(values)} values; give 1 or one per channel ({per_channel})")
            column = torch.tensor([float(v) for v in values]).view(-1, *[1] * (len(image_shape) - 1))
            self.register_buffer(name, column)
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.std).all() and (self.std > 0).all()):
            raise InputError(
                f"model.std is {list(std)} and model.mean {list(mean)}; all must be finite and std above 0"
            )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The layer as ``scale·x + shift``, which attacks can fuse."""
        return 1 / self.std, -self.mean / self.std

    def forward(self, x: Tensor) -> Tensor:  # x: [N, C, H, W] or [N, D]
        if x.shape[1] != self.channels:
            raise InputError(f"the model was built for {self.channels} channels but the input has shape {list(x.shape)}")
        return (x - self.mean) / self.std
