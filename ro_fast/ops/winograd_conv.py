"""3×3 convolution of stride 1 by Winograd's F(2×2, 3×3): 16 products instead of the definition's 36."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _register, backends

_IN = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # Bᵀ
_OUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # Aᵀ
_WEIGHTS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G


def _reference(
    out: Tensor,  # [N, O, H, W] written
    x: Tensor,  # [N, C, H, W]
    weights: Tensor,  # [16, C, O], or [16, O, C] if transposed; in the compute dtype
    bias: Tensor | None,  # [O] in the compute dtype
    relu: bool,
    transposed: bool,
) -> None:
    height, width = x.shape[2:]
    if transposed:  # mirrored kernels give the mirrored image's mirrored result
        x, weights = x.flip(2, 3), weights.transpose(1, 2)
    x = torch.nn.functional.pad(x.to(weights.dtype), (1, 1 + width % 2, 1, 1 + height % 2))
    tiles = x.unfold(2, 4, 2).unfold(3, 4, 2)  # [N, C, I, J, 4, 4]
    before, after = (weights.new_tensor(matrix) for matrix in (_IN, _OUT))
    with torch.autocast(x.device.type, enabled=False):
        v = torch.einsum("ry,ncijyx,sx->rsncij", before, tiles, before)
        m = torch.einsum("rsncij,rsco->rsnoij", v, weights.unflatten(0, (4, 4)))
        y = torch.einsum("yr,rsnoij,xs->noiyjx", after, m, after)
    y = y.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
    if bias is not None:
        y = y + bias.view(-1, 1, 1)
    y = torch.where(y <= 0, 0.0, y) if relu else y
    out.copy_(y.flip(2, 3) if transposed else y)


def _into(out: Tensor, x: Tensor, weights: Tensor, bias: Tensor | None, relu: bool, transposed: bool) -> None:
    last = torch.channels_last
    written = out if out.is_contiguous(memory_format=last) else torch.empty_like(out, memory_format=last)
    run = backends.select("winograd_conv", x.device.type)
    run(written, x.contiguous(memory_format=last), *_layout.contiguous(weights, bias), relu, transposed)
    if written is not out:
        out.copy_(written)


_SCHEMA = "winograd_conv(Tensor(a!) out, Tensor x, Tensor weights, Tensor? bias, bool relu, bool transposed) -> ()"
_register.define_slot(_SCHEMA, _reference)
_register.define_op(_SCHEMA, _into, lambda *args: None)


def winograd_weights(
    weight: Tensor,  # [O, C, 3, 3]
) -> Tensor:  # [16, C, O]
    """``G g Gᵀ`` for each pair of channels, as :func:`winograd_conv` takes it; in at least float32.

    Raises:
        ValueError: if a kernel is not 3×3.

    >>> winograd_weights(torch.ones(2, 5, 3, 3)).shape
    torch.Size([16, 5, 2])
    """
    if weight.dim() != 4 or weight.shape[2:] != (3, 3):
        raise ValueError(f"winograd_weights: weight has shape {list(weight.shape)}; [O, C, 3, 3] is needed")
    weight = weight.detach().to(_check.compute_dtype(weight))
    g = weight.new_tensor(_WEIGHTS)
    with torch.autocast(weight.device.type, enabled=False):
        both = torch.kron(g, g)  # [16, 9]
        return (both @ weight.permute(2, 3, 1, 0).reshape(9, -1)).unflatten(1, (weight.shape[1], weight.shape[0]))


def winograd_conv(
    x: Tensor,  # [N, C, H, W]
    weights: Tensor,  # [16, C, O]
    bias: Tensor | None = None,  # [O]
    *,
    relu: bool = False,
    transposed: bool = False,
) -> Tensor:  # [N, O, H, W]
    """3×3 convolution with stride 1 and padding 1, ``y_o = b_o + Σ_c g_oc ∗ x_c``; max(0, y) with ``relu``.

    For each 2×2 block of outputs, with d its 4×4 block of inputs: ``Aᵀ [Σ_c (G g Gᵀ) ⊙ (Bᵀ d B)] A``, which takes 4/9 of the
    products. On a GPU there is only the reference: cuDNN has such kernels of its own.

    Args:
        x: [N, C, H, W], float32, bfloat16 or float64; channels_last tensors are read in place.
        weights: from :func:`winograd_weights` for a weight [O, C, 3, 3], in float32, or float64 for float64 inputs.
        bias: [O], None for 0.
        relu: whether negative outputs become 0; NaN is kept.
        transposed: the transposed convolution, from [N, O, H, W] to [N, C, H, W]: the input gradient of the forward one, with
            the same weights.

    Returns:
        [N, O, H, W], channels last. A non-finite value turns more of its neighbourhood into NaN than the definition would.
        Not differentiable by itself.

    Raises:
        ValueError, TypeError: on shapes, dtypes or devices that don't fit, naming both values.

    Deterministic. Source: Lavin & Gray 2016 (arXiv 1509.09308).

    >>> x, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    >>> winograd_conv(x, winograd_weights(weight))[0, 0]
    tensor([[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]])
    """
    name = "winograd_conv"
    _check.check_images(name, x=x)
    takes, gives = (2, 1) if transposed else (1, 2)
    if x.dim() != 4 or weights.dim() != 3 or len(weights) != 16 or weights.shape[takes] != x.shape[1]:
        shapes = f"x has shape {list(x.shape)} and weights {list(weights.shape)}"
        raise ValueError(f"{name}: {shapes}; [N, C, H, W] and {'[16, O, C]' if transposed else '[16, C, O]'} are needed")
    outputs, dtype = weights.shape[gives], _check.compute_dtype(x)
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: bias has shape {list(bias.shape)}; [{outputs}] is needed")
    for other, t in (("weights", weights), ("bias", bias)):
        if t is not None and (t.dtype != dtype or t.device != x.device):
            raise TypeError(f"{name}: {other} has {t.dtype} on {t.device}; {dtype} on {x.device} is needed")
    shape = x.shape[0], outputs, *x.shape[2:]
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    with torch.no_grad():
        torch.ops.ro_fast.winograd_conv(out, x, weights, bias, relu, transposed)
    return out
