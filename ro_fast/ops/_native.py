"""Loads the compiled operators once and remembers why one could not be loaded."""

from __future__ import annotations

import functools
import importlib

import torch  # noqa: F401  (libc10 must be in the process before an extension that links to it)

from ro_fast.installing import command

_MODULES = {"cpu": "_C", "cuda": "_C_cuda"}


@functools.cache
def why_missing(device_type: str) -> str | None:
    """Returns None if the compiled operators of a device are loaded, otherwise one sentence saying why not."""
    module = _MODULES.get(device_type)
    if module is None:
        return f"no native operators exist for device '{device_type}'"
    try:
        importlib.import_module(f"ro_fast.{module}")
    except ModuleNotFoundError:
        return f"ro_fast.{module} is not built" + (f" (run: {command()} build)" if device_type == "cpu" else "")
    except (ImportError, OSError) as error:
        return f"ro_fast.{module} does not load: {str(error).splitlines()[0]}"
    return None
