"""Layers of a network that is only attacked: a forward that keeps next to nothing, and the gradient of the input by hand.

``forward`` returns the output and what ``backward`` needs; ``backward`` adds to ``gathered``, the gradient that reaches the
same input by other ways. Weights are constants here, so that BatchNorm can be folded and weights be packed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.ops import affine_relu, affine_relu_backward, backends, winograd_conv, winograd_weights


class Layer:
    """One input, one output; the base is the identity."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what :meth:`backward` needs."""
        return x, None

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        """The gradient of the input, with what was gathered for it so far; no argument is written to."""
        return grad if gathered is None else grad + gathered


@dataclass
class Affine(Layer):
    """``scale_c·x + shift_c``."""

    scale: Tensor  # broadcasts against [N, C, ...]
    shift: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return torch.addcmul(self.shift, x, self.scale), None

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        grad = grad * self.scale
        return grad if gathered is None else grad.add_(gathered)


@dataclass
class AffineReLU(Layer):
    """``max(0, scale_c·x + shift_c)``, of which one bit a value is kept."""

    scale: Tensor | None = None  # [C]
    shift: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether it is a ReLU and nothing else."""
        return self.scale is None

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        y, bits = affine_relu(x, self.scale, self.shift)
        return y, (bits, torch.channels_last if last else torch.contiguous_format)

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        bits, order = saved  # the bits lie in the order that the values had
        return affine_relu_backward(grad.contiguous(memory_format=order), bits, self.scale, add=gathered)


class MeanPool(Layer):
    """Mean over positions: [N, C, H, W] -> [N, C, 1, 1]."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        # As a sum over the middle dimension: torch's own over the last two is slow where channels lie last.
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)[:, :, None, None], x

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        even = torch.empty_like(saved).copy_(grad / (saved.shape[2] * saved.shape[3]))
        return super().backward(even, None, gathered)


class Flatten(Layer):
    """[N, ...] -> [N, D]."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return x.flatten(1), x.shape

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        return super().backward(grad.reshape(saved), None, gathered)


@dataclass
class Linear(Layer):
    """``x·Wᵀ + b``."""

    weight: Tensor  # [out, in]
    bias: Tensor | None

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return nn.functional.linear(x, self.weight, self.bias), None

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        return grad @ self.weight if gathered is None else torch.addmm(gathered, grad, self.weight)


class WinogradConv(Layer):
    """A convolution of 3×3 with stride 1."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weights, self.bias = winograd_weights(weight), bias

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return winograd_conv(x, self.weights, self.bias), None

    def with_relu(self, x: Tensor) -> Tensor:
        """max(0, the convolution), in one write; keeps nothing for a backward."""
        return winograd_conv(x, self.weights, self.bias, relu=True)

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        grad = winograd_conv(grad, self.weights, transposed=True)
        return grad if gathered is None else grad.add_(gathered)


def winograd_pays(conv: nn.Conv2d, weight: Tensor, shape: Sequence[int]) -> bool:
    """Whether Winograd's form of a convolution of inputs of that shape is the faster one, and can be had.

    Measured in float32 on a CPU with AVX-512, where it takes 0.35 to 0.9 of oneDNN's time: its matrix products want some
    channels and tiles, and an odd side wastes a part of each. In bfloat16 oneDNN's own is the faster.
    """
    if (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups) != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        return False
    if weight.dtype != torch.float32 or backends.running("winograd_conv", weight.device.type) != "native":
        return False
    tiles = shape[0] * ((shape[2] + 1) // 2) * ((shape[3] + 1) // 2)
    even = shape[2] % 2 == shape[3] % 2 == 0
    return tiles >= 16 and min(weight.shape[:2]) >= (64 if even else 128)


class Conv(Layer):
    """A convolution, and the transposed one that is its input gradient.

    oneDNN, which torch calls on a CPU, brings weights into an order of its own at every call. Here that is done once for all
    steps of an attack, by the operators that Inductor uses; where they can't be had torch's are called.
    """

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, shape: Sequence[int]) -> None:
        padding: tuple[int, ...] = conv.padding  # type: ignore[assignment]
        self.bias, self.stride, self.padding, self.dilation, self.groups = bias, conv.stride, padding, conv.dilation, conv.groups
        sides = zip(shape[2:], padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
        steps = [divmod(size + 2 * p - d * (k - 1) - 1, s) for size, p, d, k, s in sides]
        self.output_padding = [rest for _, rest in steps]  # the pixels at the end that no stride reaches
        self.ahead = self.back = weight
        self.packed = _packs(weight)
        if self.packed:
            output_shape = [shape[0], len(weight), *(count + 1 for count, _ in steps)]
            geometry = conv.stride, conv.dilation, conv.groups
            pack, pack_back = torch.ops.mkldnn._reorder_convolution_weight, torch.ops.mkldnn._reorder_convolution_transpose_weight
            self.ahead = pack(weight, padding, *geometry, list(shape))
            self.back = pack_back(weight, padding, self.output_padding, *geometry, output_shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self._run(x, "none"), None

    def with_relu(self, x: Tensor) -> Tensor:
        """max(0, the convolution), in one write where weights are packed; keeps nothing for a backward."""
        return self._run(x, "relu") if self.packed else self._run(x, "none").relu_()

    def _run(self, x: Tensor, then: str) -> Tensor:
        if self.packed:
            geometry = self.padding, self.stride, self.dilation, self.groups
            return torch.ops.mkldnn._convolution_pointwise(x, self.ahead, self.bias, *geometry, then, [], "")
        return torch.conv2d(x, self.ahead, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, saved: Any, gathered: Tensor | None) -> Tensor:
        geometry = self.padding, self.output_padding, self.stride
        if self.packed:
            run = torch.ops.mkldnn._convolution_transpose_pointwise
            grad = run(grad, self.back, None, *geometry, self.dilation, self.groups, "none", [], "")
        else:
            grad = torch.conv_transpose2d(
                grad, self.back, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return grad if gathered is None else grad.add_(gathered)


def _packs(weight: Tensor) -> bool:
    mkldnn = torch.backends.mkldnn
    if weight.device.type != "cpu" or not (mkldnn.is_available() and mkldnn.enabled):
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_transpose_pointwise"):
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
