"""One PGD step that also writes the next forward's input: normalised, cast and laid out, in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _register, _torch_private, backends
from ro_fast.ops.pgd_step import _ARGS as _STEP
from ro_fast.ops.pgd_step import _reference as _step
from ro_fast.ops.pgd_step import step_arguments

_ARGS = f"{_STEP}, Tensor mean, Tensor std"


def _reference(
    out: Tensor,  # [N, C, ...] written; x_adv, x and grad are in its memory order; may be x_adv itself
    input: Tensor,  # [N, C, ...] written, in its own dtype and memory order
    *step_mean_std,  # the other arguments of pgd_step; mean [C] or [1] in the compute dtype; std likewise
) -> None:
    *step, mean, std = step_mean_std
    _step(out, *step)
    columns = (1, -1) + (1,) * (out.dim() - 2)
    input.copy_((out.to(mean.dtype) - mean.view(columns)) / std.view(columns))


def _into(out: Tensor, input: Tensor, x_adv: Tensor, x: Tensor, grad: Tensor, *rest) -> None:
    order = _layout.order_of(x_adv)
    written = out if out.is_contiguous(memory_format=order) else torch.empty_like(out, memory_format=order)
    input_order = _layout.order_of(input)
    laid = input if input.is_contiguous(memory_format=input_order) else torch.empty_like(input, memory_format=input_order)
    images = (_layout.in_order(t, order) for t in (x_adv, x, grad))
    backends.select("pgd_step_input", x.device.type)(written, laid, *images, *rest)
    if written is not out:
        out.copy_(written)
    if laid is not input:
        input.copy_(laid)


def _new(x_adv: Tensor, *rest) -> tuple[Tensor, Tensor]:
    out, input = _fake(x_adv, *rest)
    _into(out, input, x_adv, *rest[:-2])
    return out, input


def _fake(x_adv: Tensor, *rest) -> tuple[Tensor, Tensor]:
    *_, dtype, channels_last = rest
    order = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty_like(x_adv, memory_format=_layout.order_of(x_adv))
    return out, torch.empty_like(x_adv, dtype=dtype, memory_format=order)


_register.define_slot(f"pgd_step_input(Tensor(a!) out, Tensor(b!) input, {_ARGS}) -> ()", _reference)
_register.define_op(f"pgd_step_input({_ARGS}, ScalarType dtype, bool channels_last) -> (Tensor, Tensor)", _new, _fake)
_register.define_op(f"pgd_step_input_out(Tensor(a!) out, Tensor(b!) input, {_ARGS}) -> ()", _into, lambda *args: None)


def pgd_step_input(
    x_adv: Tensor,  # [N, C, ...]
    x: Tensor,  # [N, C, ...]
    grad: Tensor,  # [N, C, ...]
    eps: float | Tensor,  # radius in input units, scalar or [N]
    alpha: float | Tensor,  # step length in input units, scalar or [N]
    mean: Tensor,  # [C] or [1]
    std: Tensor,  # [C] or [1]
    *,
    norm: str = "linf",
    lo: float = 0.0,
    hi: float = 1.0,
    active: Tensor | None = None,  # bool [N]
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    out: tuple[Tensor, Tensor] | None = None,  # two of [N, C, ...]
) -> tuple[Tensor, Tensor]:
    """One PGD step and the resulting input of the network's first layer: ``(x_next, (x_next − mean_c)/std_c)``.

    ``x_next`` equals :func:`pgd_step`'s, bit for bit; the second is computed from its rounded value. In float32 with a
    bfloat16 input 18 bytes per value are moved; a step followed by normalising and casting moves 30 or more.

    Args:
        x_adv, x, grad, eps, alpha, norm, lo, hi, active: as for :func:`pgd_step`; images have a channel dimension. ``grad`` is
            the gradient of ``x_adv``: that of the input divided by std, which in L∞ has the same sign.
        mean, std: one value per channel, or one for all, on the device of ``x``; std above 0. Used in float32, or float64
            for float64 inputs.
        dtype: of the input: that of ``x`` (the default) or torch.bfloat16.
        memory_format: of the input: torch.contiguous_format or torch.channels_last (for [N, C, H, W]); by default that of
            ``x_adv``.
        out: where to write both; the first may be ``x_adv`` itself; the second determines dtype and memory order, which are then
            not given.

    Returns:
        The next adversarial inputs, in the memory order of ``x_adv``, and the network's input; ``out`` if it was given. No
        gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes, devices or budgets that don't fit, naming both values.

    Deterministic. Never synchronises with the device. Source: Madry et al. 2018 (arXiv 1706.06083), eq. after (2.1).

    >>> x, half = torch.tensor([[0.5, 0.95]]), torch.tensor([0.5])
    >>> pgd_step_input(x, x, torch.tensor([[-3.0, 2.0]]), eps=0.25, alpha=0.25, mean=half, std=half)
    (tensor([[0.2500, 1.0000]]), tensor([[-0.5000, 1.0000]]))
    """
    op = "pgd_step_input"
    args = step_arguments(op, x_adv, x, grad, eps, alpha, norm, lo, hi, active)
    if x.dim() < 2:
        raise ValueError(f"{op}: x_adv has shape {list(x.shape)}; [N, C, ...] is needed")
    args += (_channels(op, "mean", mean, x), _channels(op, "std", std, x))
    if args[-1].numel() != args[-2].numel():
        raise ValueError(f"{op}: mean has shape {list(mean.shape)}, std {list(std.shape)}; they should agree")
    if out is not None and (dtype is not None or memory_format is not None):
        raise ValueError(f"{op}: out already determines dtype and memory_format of the input; give only one")
    dtype = x.dtype if dtype is None else dtype
    order = memory_format
    if order is None:  # under vmap a tensor can't be asked for its memory order
        order = torch.contiguous_format if _torch_private.transformed() else _layout.order_of(x_adv)
    if order not in (torch.contiguous_format, torch.channels_last) or (order == torch.channels_last and x.dim() != 4):
        raise ValueError(f"{op}: memory_format is {order} for {x.dim()} dimensions; contiguous, or channels_last for 4 is needed")
    with torch.no_grad():
        if out is None:
            _check_dtype(op, dtype, x)
            return torch.ops.ro_fast.pgd_step_input(*args, dtype, order == torch.channels_last)
        x_next, input = out
        _check.check_images(op, x_adv=x_adv, **{"out[0]": x_next})
        _check_dtype(op, input.dtype, x)
        if input.shape != x.shape or input.device != x.device:
            raise ValueError(
                f"{op}: out[1] is {list(input.shape)} on {input.device}, x_adv {list(x.shape)} on {x.device}; they should agree"
            )
        _check.check_out(op, x_next, x_adv=x_adv, x=x, grad=grad, **{"out[1]": input})
        torch.ops.ro_fast.pgd_step_input_out(x_next, input, *args)
        return out


def _check_dtype(op: str, dtype: torch.dtype, x: Tensor) -> None:
    if dtype not in (x.dtype, torch.bfloat16):
        raise TypeError(f"{op}: the input is to be {dtype}, x_adv is {x.dtype}; that or torch.bfloat16 is needed")


def _channels(op: str, name: str, values: Tensor, x: Tensor) -> Tensor:
    """[C] in the compute dtype; a single value is kept if memory orders need not be told apart."""
    if values.numel() not in (1, x.shape[1]):
        raise ValueError(f"{op}: {name} has shape {list(values.shape)}; [1] or [{x.shape[1]}], one per channel, is needed")
    if values.device != x.device:
        raise ValueError(f"{op}: {name} is on {values.device}, x_adv on {x.device}; they should agree")
    values = values.detach().to(_check.compute_dtype(x)).flatten()
    return (values.expand(x.shape[1]) if x.dim() == 4 else values).contiguous()
