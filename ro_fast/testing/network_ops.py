"""Samples of network-layer operators: with and without each argument, sizes that end within a byte or a tile."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ro_fast.ops import winograd_weights
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


def _winograd_conv(draw: Draw) -> Iterator[Sample]:
    for n, c, o, height, width in ((2, 3, 5, 4, 6), (1, 17, 4, 5, 7), (3, 2, 1, 1, 1), (0, 3, 2, 4, 4), (33, 2, 3, 2, 3)):
        dtype = torch.promote_types(draw.dtype, torch.float32)
        weights = winograd_weights(draw.normal(o, c, 3, 3).to(dtype))
        x, y, bias = draw.normal(n, c, height, width), draw.normal(n, o, height, width), draw.normal(o).to(dtype)
        name = f"{[n, c, height, width]} to {o}"
        yield Sample("winograd_conv", name, (x, weights, bias))
        yield Sample("winograd_conv", f"{name}, ReLU, no bias", (x, weights), {"relu": True})
        yield Sample("winograd_conv", f"{name}, transposed", (y, weights), {"transposed": True})


CASES = {"affine_relu": _affine_relu, "affine_relu_backward": _affine_relu_backward, "winograd_conv": _winograd_conv}
