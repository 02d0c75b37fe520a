"""Which implementation of an operator runs on which device: reference (torch), triton or native (C++).

A backend is chosen by :func:`use_backend`, else by the environment variable ``RO_FAST_BACKEND``, else by the
device's order of preference. Naming a backend that cannot run is an error; nothing falls back silently.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ro_fast.installing import command, pip_install
from ro_fast.ops import _native, _torch_private

BACKENDS = ("reference", "triton", "native")
# Triton on a CPU is its interpreter, meant for tests: it runs only if named.
_ORDER = {"cpu": ("native", "reference"), "cuda": ("native", "triton", "reference")}

REFERENCE: dict[str, Callable[..., Any]] = {}  # operator slot -> torch implementation; filled by ro_fast.ops
_named: contextvars.ContextVar[str | None] = contextvars.ContextVar("ro_fast_backend", default=None)


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs every operator in the block on the named backend, or raises ValueError if it cannot.

    >>> from ro_fast.ops import pgd_step
    >>> x = torch.full((1, 2), 0.5)
    >>> with use_backend("reference"):
    ...     pgd_step(x, x, torch.tensor([[1.0, -1.0]]), eps=0.25, alpha=0.25)
    tensor([[0.7500, 0.2500]])
    """
    _check_name(name)
    token = _named.set(name)
    try:
        yield
    finally:
        _named.reset(token)


def select(op: str, device_type: str) -> Callable[..., Any]:
    """Returns the implementation of operator slot ``op`` that currently runs on ``device_type``."""
    return _resolve(op, device_type, _wanted())


def available(op: str, device_type: str) -> list[str]:
    """Lists the backends that can run operator slot ``op`` on ``device_type``."""
    return [name for name in BACKENDS if why_not(name, op, device_type) is None]


def why_not(name: str, op: str, device_type: str) -> str | None:
    """Returns None if a backend can run an operator on a device, otherwise one sentence saying why it cannot."""
    _check_name(name)
    if name == "triton":
        return _why_no_triton(op, device_type)
    if name == "native":
        return _why_no_native(op, device_type)
    return None


def running(op: str, device_type: str) -> str:
    """Names the backend that currently runs operator slot ``op`` on ``device_type``."""
    _check_op(op)
    return _wanted() or next(name for name in _order(device_type) if why_not(name, op, device_type) is None)


def explain(op: str, device_type: str) -> str:
    """Reports in a few lines which backend runs an operator on a device, and why each of the others does not."""
    lines = [f"{op} on {device_type}: {running(op, device_type)}" + (" (named)" if _wanted() else "")]
    for name in BACKENDS:
        lines.append(f"  {name}: {why_not(name, op, device_type) or 'available'}")
    return "\n".join(lines)


def _wanted() -> str | None:
    return _named.get() or os.environ.get("RO_FAST_BACKEND") or None


@functools.cache
def _resolve(op: str, device_type: str, wanted: str | None) -> Callable[..., Any]:
    if wanted is not None:
        _check_name(wanted)
        reason = why_not(wanted, op, device_type)
        if reason is not None:
            raise ValueError(
                f"backend '{wanted}' cannot run {op} on {device_type}: {reason}. "
                f"Available: {', '.join(available(op, device_type))}"
            )
        return _implementation(wanted, op)
    return next(_implementation(name, op) for name in _order(device_type) if why_not(name, op, device_type) is None)


def _implementation(name: str, op: str) -> Callable[..., Any]:
    if name == "reference":
        return REFERENCE[op]
    if name == "native":
        return getattr(torch.ops.ro_fast_native, op).default
    return getattr(importlib.import_module("ro_fast.kernels"), op)


def _order(device_type: str) -> tuple[str, ...]:
    return _ORDER.get(device_type, ("reference",))


def _why_no_triton(op: str, device_type: str) -> str | None:
    try:
        kernels = importlib.import_module("ro_fast.kernels")
    except ImportError as error:
        return f"{str(error).splitlines()[0]} ({pip_install('triton')})"
    if device_type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "no GPU and TRITON_INTERPRET is unset"
    if device_type not in ("cpu", "cuda"):
        return f"no Triton kernels exist for device '{device_type}'"
    return None if hasattr(kernels, op) else f"no Triton kernel of {op} exists"


def _why_no_native(op: str, device_type: str) -> str | None:
    reason = _native.why_missing(device_type)
    if reason is not None:
        return reason
    if _torch_private.has_kernel(f"ro_fast_native::{op}", device_type.upper()):
        return None
    return f"the compiled extension has no {op} (run: {command()} build)"


def _check_name(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"backend '{name}' is unknown; available: {', '.join(BACKENDS)}")


def _check_op(op: str) -> None:
    if op not in REFERENCE:
        raise ValueError(f"operator '{op}' is unknown; available: {', '.join(sorted(REFERENCE))}")
