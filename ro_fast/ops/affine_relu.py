"""ReLU of a per-channel affine map, which keeps one bit per value; and its input gradient, which needs nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _register, backends

_BYTE = (1, 2, 4, 8, 16, 32, 64, 128)  # value 8j + k of the memory order is bit k of byte j


def _by_channel(values: Tensor | None, like: Tensor, default: float) -> Tensor | float:
    return default if values is None else values.view(1, -1, *[1] * (like.dim() - 2))


def _flat(t: Tensor) -> Tensor:
    """The values in memory order."""
    return t.permute(0, 2, 3, 1).reshape(-1) if _layout.order_of(t) == torch.channels_last else t.reshape(-1)


def _reference(
    out: Tensor,  # [N, C, ...] written; may be x itself
    bits: Tensor,  # uint8 [ceil(size / 8)] written
    x: Tensor,  # [N, C, ...] in the memory order of out
    scale: Tensor | None,  # [C] in the compute dtype
    shift: Tensor | None,  # [C]
) -> None:
    dtype = _check.compute_dtype(x)
    y = x.to(dtype) * _by_channel(scale, x, 1.0) + _by_channel(shift, x, 0.0)
    passes = _flat(~(y <= 0))  # NaN passes, as in torch.relu
    padded = torch.nn.functional.pad(passes, (0, -len(passes) % 8)).view(-1, 8)
    bits.copy_((padded * torch.tensor(_BYTE, dtype=torch.uint8, device=x.device)).sum(1))
    out.copy_(torch.where(y <= 0, 0.0, y))


def _reference_backward(
    out: Tensor,  # [N, C, ...] written; may be grad itself
    grad: Tensor,  # [N, C, ...]
    bits: Tensor,  # uint8 [ceil(size / 8)]
    scale: Tensor | None,  # [C] in the compute dtype
    add: Tensor | None,  # [N, C, ...]
) -> None:
    dtype = _check.compute_dtype(grad)
    flat = (bits.unsqueeze(1) & torch.tensor(_BYTE, dtype=torch.uint8, device=bits.device)).view(-1)[: grad.numel()] != 0
    passes = torch.empty_like(grad, dtype=torch.bool)
    in_memory = passes.permute(0, 2, 3, 1) if _layout.order_of(grad) == torch.channels_last else passes
    in_memory.copy_(flat.view(in_memory.shape))
    passed = torch.where(passes, grad.to(dtype) * _by_channel(scale, grad, 1.0), 0.0)
    out.copy_(passed if add is None else passed + add.to(dtype))


def _forward(out: Tensor, bits: Tensor, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> None:
    backends.select("affine_relu", x.device.type)(out, bits, x, scale, shift)


def _backward(out: Tensor, grad: Tensor, bits: Tensor, scale: Tensor | None, add: Tensor | None) -> None:
    if bits.numel() != (grad.numel() + 7) // 8:
        raise ValueError(f"affine_relu_backward: {bits.numel()} bytes of bits for {grad.numel()} values; give a bit per value")
    backends.select("affine_relu_backward", grad.device.type)(out, grad, bits.contiguous(), scale, add)


_FORWARD = "(Tensor(a!) out, Tensor(b!) bits, Tensor x, Tensor? scale, Tensor? shift) -> ()"
_BACKWARD = "(Tensor(a!) out, Tensor grad, Tensor bits, Tensor? scale, Tensor? add) -> ()"
_register.define_slot(f"affine_relu{_FORWARD}", _reference)
_register.define_slot(f"affine_relu_backward{_BACKWARD}", _reference_backward)
_register.define_op(f"affine_relu{_FORWARD}", _forward, lambda *args: None)
_register.define_op(f"affine_relu_backward{_BACKWARD}", _backward, lambda *args: None)


def affine_relu(
    x: Tensor,  # [N, C, ...]
    scale: Tensor | None = None,  # [C]
    shift: Tensor | None = None,  # [C]
    *,
    out: Tensor | None = None,  # [N, C, ...]
) -> tuple[Tensor, Tensor]:
    """ReLU of a per-channel affine map, ``y = max(0, scale_c·x + shift_c)``, with its mask as bits.

    BatchNorm in eval mode followed by ReLU is such a map: ``scale = γ/√(σ² + ϵ)``, ``shift = β − μ·scale``.

    Args:
        x: [N, C, ...], float32, bfloat16 or float64; contiguous or channels_last tensors are read in place.
        scale, shift: [C], None for 1 and 0; used in float32, or float64 for float64 inputs.
        out: where to write, in the memory order of ``x``; may be ``x`` itself.

    Returns:
        y in the memory order of x, and uint8 [ceil(size / 8)]: bit k of byte j says whether value 8j + k of the memory
        order passed, which is all that :func:`affine_relu_backward` needs. Not differentiable by itself.

    Raises:
        ValueError, TypeError: on shapes, dtypes or devices that don't fit, naming both values.

    Deterministic.

    >>> affine_relu(torch.tensor([[1.0, -2.0, 3.0]]), shift=torch.tensor([0.0, 1.0, 1.0]))
    (tensor([[1., 0., 4.]]), tensor([5], dtype=torch.uint8))
    """
    name = "affine_relu"
    _check.check_images(name, x=x)
    if x.dim() < 2:
        raise ValueError(f"{name}: x has shape {list(x.shape)}; [N, C, ...] is needed")
    order = _layout.order_of(x)
    x = _layout.in_order(x.detach(), order)
    out = torch.empty_like(x) if out is None else _same_memory(name, out, "x", x)
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8, device=x.device)
    torch.ops.ro_fast.affine_relu(out, bits, x, _channels(name, "scale", scale, x), _channels(name, "shift", shift, x))
    return out, bits


def affine_relu_backward(
    grad: Tensor,  # [N, C, ...]
    bits: Tensor,  # uint8 [ceil(size / 8)]
    scale: Tensor | None = None,  # [C]
    *,
    add: Tensor | None = None,  # [N, C, ...]
    out: Tensor | None = None,  # [N, C, ...]
) -> Tensor:
    """Input gradient of :func:`affine_relu`, ``scale_c·grad`` where the value passed, else 0; plus ``add``.

    Args:
        grad: gradient of y, [N, C, ...], in the memory order in which ``bits`` were made.
        bits: as :func:`affine_relu` returned them.
        scale: [C], as given to :func:`affine_relu`.
        add: gradient that reaches x by another path, such as a residual connection, [N, C, ...].
        out: where to write, in the memory order of ``grad``; may be ``grad`` itself.

    Returns:
        The gradient of x, [N, C, ...].

    Raises:
        ValueError, TypeError: on shapes, dtypes or devices that don't fit, naming both values.

    Deterministic.

    >>> y, bits = affine_relu(torch.tensor([[1.0, -2.0, 3.0]]))
    >>> affine_relu_backward(torch.tensor([[10.0, 20.0, 30.0]]), bits)
    tensor([[10.,  0., 30.]])
    """
    name = "affine_relu_backward"
    _check.check_images(name, grad=grad)
    grad = _layout.in_order(grad.detach(), _layout.order_of(grad))
    if grad.dim() < 2 or bits.dtype != torch.uint8 or bits.numel() != (grad.numel() + 7) // 8:
        raise ValueError(
            f"{name}: grad has shape {list(grad.shape)}, bits are {bits.dtype} {list(bits.shape)}; [N, C, ...] and one bit per "
            "value in uint8 are needed"
        )
    if add is not None:
        _check.check_images(name, grad=grad, add=add)
        add = _layout.in_order(add.detach(), _layout.order_of(grad))
    out = torch.empty_like(grad) if out is None else _same_memory(name, out, "grad", grad)
    if bits.device != grad.device:
        raise ValueError(f"{name}: bits are on {bits.device}, grad on {grad.device}; they should agree")
    torch.ops.ro_fast.affine_relu_backward(out, grad, bits, _channels(name, "scale", scale, grad), add)
    return out


def _same_memory(op: str, out: Tensor, name: str, like: Tensor) -> Tensor:
    _check.check_images(op, **{name: like, "out": out})
    if not out.is_contiguous(memory_format=_layout.order_of(like)):
        raise ValueError(f"{op}: out has strides {out.stride()}, {name} has {like.stride()}; one memory order is needed")
    return out


def _channels(op: str, name: str, values: Tensor | None, like: Tensor) -> Tensor | None:
    if values is None:
        return None
    if values.shape != like.shape[1:2] or values.device != like.device:
        raise ValueError(
            f"{op}: {name} has shape {list(values.shape)} on {values.device}; one value for each of {like.shape[1]} channels "
            f"on {like.device} is needed"
        )
    _check.check_real(op, name, values)
    return values.detach().to(_check.compute_dtype(like)).contiguous()
