"""The only file that calls torch.library: it declares operators, their backends' slots, gradients and batching rules.

An operator has a public schema in the namespace ``ro_fast``. What a backend has to compute is declared by a slot: a
schema in the namespace ``ro_fast_native``, whose torch reference is Python, whose Triton launcher is
``ro_fast.kernels.<slot>``, and whose compiled kernel says only IMPL. Outputs written by a backend come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ro_fast.ops import _torch_private, backends

_PUBLIC = torch.library.Library("ro_fast", "DEF")
_NATIVE = torch.library.Library("ro_fast_native", "DEF")
_FUNCTIONS: dict[str, Any] = {}  # differentiable operator -> its autograd.Function
_DIRECT: dict[str, Any] = {}  # the same on the kernel itself


def define_slot(schema: str, reference: Callable[..., Any]) -> None:
    """Declares what each backend implements, with the torch reference, which is always available."""
    _NATIVE.define(schema)
    backends.REFERENCE[schema.split("(")[0]] = reference


def define_op(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
    batch: Callable[..., Any] | None = None,
) -> None:
    """Declares a public operator: its kernel for every device, its shapes, and its gradient if it has one.

    ``batch`` computes the operator on arguments that each have one more leading dimension, as required by torch.func.vmap;
    None calls the operator once per entry of that dimension, and is an error if it writes into its arguments.
    """
    name = schema.split("(")[0]
    _PUBLIC.define(schema)
    _PUBLIC.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"ro_fast::{name}", fake, lib=_PUBLIC)
    rule, overload = batch or (_refused if schema.endswith("()") else _one_by_one), getattr(torch.ops.ro_fast, name).default
    torch.library.register_vmap(
        f"ro_fast::{name}", lambda info, dims, *args: _batched(rule, overload, info.batch_size, dims, args), lib=_PUBLIC
    )
    if backward is not None:
        torch.library.register_autograd(f"ro_fast::{name}", backward, setup_context=setup_context, lib=_PUBLIC)
        _FUNCTIONS[name] = _function(name, backward, setup_context)
        _DIRECT[name] = _direct(name, kernel, backward, setup_context)


def call(name: str, *args: Any) -> Any:
    """Calls a differentiable operator, including under torch.func's transforms, where register_autograd's gradient is an error,
    and under forward-mode differentiation, where it would silently give zero tangents.

    If nothing intercepts operators, the kernel is called without the dispatcher, whose two passes through Python, forward and
    backward, take as long as a small loss.
    """
    if _torch_private.differentiated_by_transforms():
        return _FUNCTIONS[name].apply(*args)
    if _nobody_looks(args):
        return _DIRECT[name].apply(*args)
    return getattr(torch.ops.ro_fast, name)(*args)


def _nobody_looks(args: tuple[Any, ...]) -> bool:
    """Whether operators are neither traced nor intercepted: no compiler, no mode, and plain torch tensors."""
    if torch.compiler.is_compiling() or _torch_private.operators_intercepted():
        return False
    return all(type(a) in (Tensor, torch.nn.Parameter) and not a.is_meta for a in args if isinstance(a, Tensor))


def _function(name: str, backward: Callable[..., Any], setup_context: Callable[..., None] | None) -> Any:
    methods = {
        "forward": staticmethod(lambda *args: getattr(torch.ops.ro_fast, name)(*args)),
        "setup_context": staticmethod(setup_context or (lambda ctx, inputs, output: None)),
        "backward": staticmethod(backward),
        "generate_vmap_rule": True,
    }
    return type(name, (torch.autograd.Function,), methods)


def _direct(
    name: str, kernel: Callable[..., Any], backward: Callable[..., Any], setup_context: Callable[..., None] | None
) -> Any:
    def forward(ctx: Any, *args: Any) -> Any:  # with a separate setup_context, torch would bind the arguments by name
        output = kernel(*args)
        if setup_context is not None:
            setup_context(ctx, args, output)
        return output

    return type(name, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def differentiable_once(name: str) -> Callable[..., Any]:
    """The backward of a gradient: an error, where torch would silently continue with a second derivative of 0."""

    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError(f"{name}: it is differentiable only once, but a second derivative was requested")

    return backward


def rows(overload: Callable[..., Any], *args: Any) -> Any:
    """Batching rule of operators whose tensors all have samples in front: the batch is more samples."""
    size = next(a.shape[:2] for a in args if isinstance(a, Tensor))
    flat = [a.flatten(0, 1) if isinstance(a, Tensor) else a for a in args]
    return _torch_private.tree_map(lambda t: t.unflatten(0, size), overload(*flat))


def _one_by_one(overload: Callable[..., Any], *args: Any) -> Any:
    size = next(len(a) for a in _torch_private.tree_leaves(args) if isinstance(a, Tensor))
    results = [overload(*_torch_private.tree_map(lambda a, i=i: a[i] if isinstance(a, Tensor) else a, args)) for i in range(size)]
    return _torch_private.tree_map(lambda *each: torch.stack(each), *results)


def _refused(overload: Any, *args: Any) -> Any:
    name = overload._opname
    raise NotImplementedError(f"{name}: it writes into its arguments, which torch.func.vmap can't do; call it on all samples")


def _batched(rule: Callable[..., Any], overload: Any, size: int, dims: tuple[Any, ...], args: tuple[Any, ...]) -> Any:
    """Moves each tensor's batch dimension to the front, with stride 0 if it has none, and reports it there for results."""

    def in_front(arg: Any, dim: Any) -> Any:
        if isinstance(arg, (list, tuple)):
            return [in_front(a, d) for a, d in zip(arg, dim if isinstance(dim, (list, tuple)) else [dim] * len(arg), strict=True)]
        if not isinstance(arg, Tensor):
            return arg
        return arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)

    result = rule(overload, *(in_front(a, d) for a, d in zip(args, dims, strict=True)))
    return result, _torch_private.tree_map(lambda _: 0, result)
