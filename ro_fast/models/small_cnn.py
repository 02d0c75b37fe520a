"""Small convolutional network for a CPU: three 3×3 stages with BatchNorm, small enough to train in seconds."""

from __future__ import annotations

from torch import nn


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    # BatchNorm subtracts the mean, so a bias before it would have no effect.
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def small_cnn(image_shape: tuple[int, ...], width: int = 32) -> tuple[nn.Module, int]:
    """Builds the trunk of stages with width, 2·width and 2·width channels; returns it and its feature size.

    The last two halve the resolution by stride; the mean over the remaining positions makes any image size work.
    """
    widths = (image_shape[0], width, 2 * width, 2 * width)
    stages = [_stage(widths[i], widths[i + 1], stride) for i, stride in enumerate((1, 2, 2))]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]
