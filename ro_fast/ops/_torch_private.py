"""Every private name of torch that the project uses, so that a new version is checked in one place.

Verified with torch 2.11 and 2.13. If a later torch has removed one, importing this module says which; nothing falls back
silently. Private names of torch's oneDNN operators are looked up when called, since a build may lack oneDNN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

try:
    from torch.utils._pytree import tree_leaves, tree_map  # rules of torch.func.vmap go through nested results

    _transforms_active = torch._C._are_functorch_transforms_active
    _dispatch_modes = torch._C._len_torch_dispatch_stack
    _function_mode = torch._C._is_torch_function_mode_enabled
    _has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    _standard_gamma = torch._standard_gamma
    AnyBatchNorm = nn.modules.batchnorm._BatchNorm  # the common class of BatchNorm1d, 2d, 3d and SyncBatchNorm
except (ImportError, AttributeError) as error:
    raise ImportError(f"ro_fast needs a private name that torch {torch.__version__} no longer has: {error}") from error

__all__ = [
    "AnyBatchNorm",
    "any_hooks",
    "differentiated_by_transforms",
    "fake_tensors",
    "has_kernel",
    "mkldnn",
    "mkldnn_packs",
    "operators_intercepted",
    "standard_gamma",
    "trace_autograd",
    "transformed",
    "tree_leaves",
    "tree_map",
]


def any_hooks(module: nn.Module) -> bool:
    """Whether calling a module runs hooks, either its own or global ones."""
    m, everywhere = module, nn.modules.module
    own = m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
    of_all = everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks
    return bool(own or of_all or everywhere._global_backward_hooks or everywhere._global_backward_pre_hooks)


def fake_tensors() -> Any:
    """A mode in which operators run on tensors with shapes but no values; ``from_tensor`` makes one from a real tensor."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


def differentiated_by_transforms() -> bool:
    """Whether torch.func's transforms or forward-mode differentiation are active, which reach operators by other paths."""
    return _transforms_active() or torch.autograd.forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether torch.func's transforms are active, under which tensors have no memory of their own."""
    return bool(_transforms_active())


def operators_intercepted() -> bool:
    """Whether a dispatch or function mode intercepts operators."""
    return bool(_dispatch_modes() or _function_mode())


def has_kernel(operator: str, dispatch_key: str) -> bool:
    """Whether an operator, "namespace::name", has a kernel for a dispatch key such as "CPU"."""
    return bool(_has_kernel(operator, dispatch_key))


def standard_gamma(shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gamma(shape, 1) variates like ``shape``; torch.distributions takes no generator."""
    return _standard_gamma(shape, generator=generator)


def trace_autograd() -> contextlib.AbstractContextManager[Any]:
    """Lets torch.compile trace torch.autograd.grad within a compiled function (off by default), for any number of shapes."""
    return torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=1024, accumulated_recompile_limit=4096)


def mkldnn(name: str) -> Callable[..., Any]:
    """An operator of torch's oneDNN namespace without its leading underscore, as Inductor calls it.

    Raises:
        AttributeError: if this build has none.
    """
    return getattr(torch.ops.mkldnn, f"_{name}")


def mkldnn_packs(weight: Tensor) -> bool:
    """Whether oneDNN can keep a convolution's weights in its own layout between calls."""
    backend = torch.backends.mkldnn
    if weight.device.type != "cpu" or not (backend.is_available() and backend.enabled):
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_transpose_pointwise"):
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
