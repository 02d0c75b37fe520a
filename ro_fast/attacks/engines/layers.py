"""Layers called by a network's rewritten graph: built from its weights once per attack, called at each step.

Weights are constant during an attack, so BatchNorm is folded into them and they are packed beforehand.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ro_fast.ops import backends, winograd_conv, winograd_weights
from ro_fast.ops._torch_private import mkldnn, mkldnn_packs

# -- BatchNorm in eval mode ------------------------------------------------------------------------------------------------


def scale_and_shift(weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``s = γ/√(σ² + ϵ)`` and ``t = β − μ·s``, [C]; in float64, since they are few."""
    scale = (var.double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def folded_weight(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's weight [O, ...] times s [O], in the dtype in which the convolution computes."""
    wide = scale.view(-1, *[1] * (weight.dim() - 1))
    return (weight * wide.to(weight.dtype)).to(dtype)


def folded_bias(bias: Tensor | None, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's bias [O] after BatchNorm, ``b·s + t``."""
    return (shift if bias is None else bias.double() * scale + shift).to(dtype)


def by_channel(values: Tensor, dims: int, dtype: torch.dtype) -> Tensor:
    """[C] as [C, 1, ...], to broadcast against [N, C, ...]."""
    return values.to(dtype).view(-1, *[1] * (dims - 2))


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``s_c·x + t_c``."""
    return torch.addcmul(shift, x, scale)


# -- ReLU --------------------------------------------------------------------------------------------------------------------


def computed(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale or shift [C] in the dtype in which affine_relu computes for inputs of ``dtype``."""
    return values.to(torch.float64 if dtype == torch.float64 else torch.float32)


def relu_with_bits(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Any]:
    """``max(0, s_c·x + t_c)``, and what its gradient needs: one bit per value, in the memory order of x."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    x = x.contiguous(memory_format=order)
    y, bits = torch.empty_like(x), torch.empty((x.numel() + 7) // 8, dtype=torch.uint8, device=x.device)
    if x.numel() > 0:
        backends.select("affine_relu", x.device.type)(y, bits, x, scale, shift)  # what the public operator calls, unchecked
    return y, (bits, order)


def relu_input_gradient(grad: Tensor, saved: Any, scale: Tensor | None, add: Tensor | None = None) -> Tensor:
    """``s_c·grad`` where the value passed, else 0; plus ``add``."""
    bits, order = saved
    grad = grad.contiguous(memory_format=order)
    out = torch.empty_like(grad)
    if grad.numel() > 0:
        add = None if add is None else add.contiguous(memory_format=order)
        backends.select("affine_relu_backward", grad.device.type)(out, grad, bits, scale, add)
    return out


def relu_gradient_into(grad: Tensor, y: Tensor) -> Tensor:
    """``grad`` where the ReLU's output y is above 0, else 0; written into grad, which nothing else holds."""
    return torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=grad)


# -- convolutions ------------------------------------------------------------------------------------------------------------


class Conv:
    """A convolution, and the transposed convolution that is its input gradient.

    oneDNN, which torch calls on a CPU, reorders weights into a layout of its own at every call. Here that is done once for all
    steps of an attack, by the operators that Inductor uses; if they are not available, torch's own are called.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, shape: Sequence[int], stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], groups: int,
    ) -> None:  # fmt: skip
        self.bias, self.stride, self.padding, self.dilation, self.groups = bias, stride, padding, dilation, groups
        weight = weight.contiguous(memory_format=torch.channels_last)
        sides = zip(shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
        steps = [divmod(size + 2 * p - d * (k - 1) - 1, s) for size, p, d, k, s in sides]
        self.output_padding = [rest for _, rest in steps]  # trailing pixels that no stride reaches
        self.ahead = self.back = weight
        self.packed = mkldnn_packs(weight)
        if self.packed:
            output_shape = [shape[0], len(weight), *(count + 1 for count, _ in steps)]
            geometry = stride, dilation, groups
            self.ahead = mkldnn("reorder_convolution_weight")(weight, padding, *geometry, list(shape))
            pack_back = mkldnn("reorder_convolution_transpose_weight")
            self.back = pack_back(weight, padding, self.output_padding, *geometry, output_shape)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """The convolution of x, or max(0, ·) of it in one write if weights are packed."""
        if self.packed:
            geometry, then = (self.padding, self.stride, self.dilation, self.groups), "relu" if relu else "none"
            return mkldnn("convolution_pointwise")(x, self.ahead, self.bias, *geometry, then, [], "")
        y = torch.conv2d(x, self.ahead, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return y.relu_() if relu else y

    def input_gradient(self, grad: Tensor) -> Tensor:
        """The gradient of its input, from that of its output."""
        geometry = self.padding, self.output_padding, self.stride
        if self.packed:
            run = mkldnn("convolution_transpose_pointwise")
            return run(grad, self.back, None, *geometry, self.dilation, self.groups, "none", [], "")
        return torch.conv_transpose2d(
            grad, self.back, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class WinogradConv:
    """A convolution of 3×3 with stride 1 and padding 1, in 4/9 of the products."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weights, self.bias = winograd_weights(weight), bias

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """The convolution of x, or max(0, ·) of it in one write."""
        return winograd_conv(x, self.weights, self.bias, relu=relu)

    def input_gradient(self, grad: Tensor) -> Tensor:
        """The gradient of its input, from that of its output."""
        return winograd_conv(grad, self.weights, transposed=True)


def prepared_conv(
    weight: Tensor, bias: Tensor | None, x_shape: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Conv | WinogradConv:  # fmt: skip
    """The faster form of a convolution for inputs of shape [N, C, H, W], with its weights packed."""
    if winograd_pays(weight, x_shape, stride, padding, dilation, groups):
        return WinogradConv(weight, bias)
    return Conv(weight, bias, x_shape, stride, padding, dilation, groups)


def winograd_pays(
    weight: Tensor, x_shape: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether the Winograd form of a convolution on inputs of that shape is faster, and available.

    Measured in float32: on Intel CPUs with AVX-512 it takes 0.35 to 0.9 of oneDNN's time (its matrix products need enough
    channels and tiles, and an odd side wastes part of each); on an AMD EPYC with AVX-512 1.2 to 2 times as long, since
    matrix products are slower there. In bfloat16 oneDNN's own convolution is faster.
    """
    if not intel():
        return False
    if (tuple(weight.shape[2:]), *map(tuple, (stride, padding, dilation)), groups) != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        return False
    if weight.dtype != torch.float32 or backends.running("winograd_conv", weight.device.type) != "native":
        return False
    tiles = x_shape[0] * ((x_shape[2] + 1) // 2) * ((x_shape[3] + 1) // 2)
    even = x_shape[2] % 2 == x_shape[3] % 2 == 0
    return tiles >= 16 and min(weight.shape[:2]) >= (64 if even else 128)


@functools.cache
def intel() -> bool:
    """Whether this is an Intel CPU, as reported by Linux; False on other systems."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def conv(prepared: Conv | WinogradConv, x: Tensor) -> Tensor:
    """A convolution whose weights were prepared."""
    return prepared.forward(x)


def conv_relu(prepared: Conv | WinogradConv, x: Tensor) -> Tensor:
    """A convolution followed by a ReLU, for which nothing is kept."""
    return prepared.forward(x, relu=True)


def conv_input_gradient(prepared: Conv | WinogradConv, grad: Tensor) -> Tensor:
    """The gradient of a convolution's input."""
    return prepared.input_gradient(grad)


# -- the rest ------------------------------------------------------------------------------------------------------------------


def mean_over_positions(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 1, 1]; as a sum over a middle dimension, since torch's own is slow in channels-last order."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)[:, :, None, None]


def add_into(fresh: Tensor, other: Tensor) -> Tensor:
    """The sum, written into the first argument, which nothing else holds."""
    return fresh.add_(other)


def channels_last(x: Tensor) -> Tensor:
    """Images [N, C, H, W] in the memory order in which convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last)
