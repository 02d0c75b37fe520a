"""Samples of the operators of a network's layers: with and without each argument, sizes that end within a byte."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ro_fast.testing.sample import Draw, Sample

_SHAPES = ((3, 5, 4, 7), (2, 64, 5, 5), (1, 1, 1, 1), (0, 3, 4, 4), (5, 17), (2, 3, 6), (1, 2050, 1, 2))


def _affine_relu(draw: Draw) -> Iterator[Sample]:
    for shape in _SHAPES:
        x, scale, shift = 2 * draw.normal(*shape), draw.normal(shape[1]), draw.normal(shape[1])
        yield Sample("affine_relu", f"{list(shape)}", (x, scale, shift))
        yield Sample("affine_relu", f"{list(shape)}, no scale", (x, None, shift))
        yield Sample("affine_relu", f"{list(shape)}, no shift", (x, scale, None))
    hostile = draw.normal(2, 9)
    hostile[0, 1], hostile[0, 8], hostile[1, 0], hostile[1, 2] = math.nan, math.inf, -math.inf, 0
    yield Sample("affine_relu", "NaN, infinities and 0", (hostile,))


def _affine_relu_backward(draw: Draw) -> Iterator[Sample]:
    for shape in _SHAPES:
        grad, scale, add = draw.normal(*shape), draw.normal(shape[1]), draw.normal(*shape)
        bits = (draw.uniform((grad.numel() + 7) // 8).double() * 256).floor().clamp(max=255).to(torch.uint8)
        yield Sample("affine_relu_backward", f"{list(shape)}", (grad, bits, scale), {"add": add})
        yield Sample("affine_relu_backward", f"{list(shape)}, no scale", (grad, bits), {"add": add})
        yield Sample("affine_relu_backward", f"{list(shape)}, no add", (grad, bits, scale))


CASES = {"affine_relu": _affine_relu, "affine_relu_backward": _affine_relu_backward}
