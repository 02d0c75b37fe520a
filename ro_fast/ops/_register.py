"""The only file that calls torch.library: it names operators, their backends' slots and their gradients.

An operator has a public schema in the namespace ``ro_fast``. What a backend has to compute stands in a slot: a
schema in the namespace ``ro_fast_native``, whose torch reference is Python, whose Triton launcher is
``ro_fast.kernels.<slot>``, and whose compiled kernel says only IMPL. Outputs that a backend writes come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ro_fast import backends

_PUBLIC = torch.library.Library("ro_fast", "DEF")
_NATIVE = torch.library.Library("ro_fast_native", "DEF")


def define_slot(schema: str, reference: Callable[..., Any]) -> None:
    """Declares what each backend implements, with the torch reference that always can."""
    _NATIVE.define(schema)
    backends.REFERENCE[schema.split("(")[0]] = reference


def define_op(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> None:
    """Declares a public operator: its kernel for every device, its shapes, and its gradient where it has one."""
    name = schema.split("(")[0]
    _PUBLIC.define(schema)
    _PUBLIC.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"ro_fast::{name}", fake, lib=_PUBLIC)
    if backward is not None:
        torch.library.register_autograd(f"ro_fast::{name}", backward, setup_context=setup_context, lib=_PUBLIC)
