"""Multilayer perceptron: two hidden ReLU layers."""

from __future__ import annotations

import math

from torch import nn


def mlp(image_shape: tuple[int, ...], width: int = 32) -> tuple[nn.Module, int]:
    """Builds the trunk of two hidden ReLU layers of 8·width units; returns it and its feature size."""
    hidden = 8 * width
    layers = (nn.Linear(math.prod(image_shape), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *layers), hidden
