"""Compiles the Triton kernels for sm_90 by the real compiler, without a GPU: python tests/ops/ahead_of_time.py float32.

The operators are called on their sample inputs, on this CPU, and each launch compiles its kernel instead: the types, Nones and
constants of its arguments are those of real use. Prints a line for each compiled kernel, as
"operator kernel bytes-of-machine-code bytes-of-shared-memory"; fails with the compiler's message if one does not compile.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from typing import Any
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)  # read when kernels are defined

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from ro_fast import backends, kernels
from ro_fast.ops import OPS
from ro_fast.testing import DIFFERENTIABLE, LAYOUTS, Sample, samples

SHARED_MEMORY = 232_448  # per block on sm_90


class Card:
    """What Triton asks the driver for when it compiles, answered for an H100."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compilations:
    """Replaces launches; remembers which kernel was compiled for which arguments."""

    def __init__(self) -> None:
        self.op = ""
        self.done: set[Any] = set()
        self._run = JITFunction.run

    def __call__(self, kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        parameters = inspect.signature(kernel.fn).parameters
        named = {name: value for name, value in kwargs.items() if name in parameters}
        bound = inspect.signature(kernel.fn).bind(*args, **named).arguments
        constants = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        key = kernel.fn.__qualname__, kernel.fn.__module__, *(self._kind(v, name in constants) for name, v in bound.items())
        if (self.op, key) not in self.done:
            compiled = self._run(kernel, *args, grid=grid, warmup=True, **kwargs)
            code, shared = len(compiled.asm["cubin"]), compiled.metadata.shared
            assert code > 0, f"{kernel.fn.__name__}: no machine code"
            assert shared <= SHARED_MEMORY, f"{kernel.fn.__name__}: {shared} bytes of shared memory; {SHARED_MEMORY} are there"
            print(self.op, kernel.fn.__name__, code, shared, flush=True)
            self.done.add((self.op, key))

    @staticmethod
    def _kind(value: Any, constant: bool) -> Any:
        """What a kernel is recompiled for. (Triton also looks for multiples of 16, which change no types.)"""
        if constant or value is None:
            return str(value)
        return value.dtype if isinstance(value, torch.Tensor) else type(value)


def run(sample: Sample) -> None:
    """The call and, if there is one, its gradient."""
    first, *rest = sample.args
    if sample.op not in DIFFERENTIABLE:
        sample.run()
        return
    loss = Sample(sample.op, sample.name, (first.detach().requires_grad_(), *rest), sample.kwargs).run()
    loss.sum().backward()


def main(dtype: torch.dtype) -> None:
    compilations = Compilations()
    triton.runtime.driver.set_active(Card())
    there = mock.patch.object(backends, "_why_no_triton", lambda op, device: None if hasattr(kernels, op) else "no kernel")
    launch = mock.patch.object(JITFunction, "run", lambda kernel, *args, **kwargs: compilations(kernel, *args, **kwargs))
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, TRITON_CACHE_DIR=cache), there, launch:
        for compilations.op in OPS:
            if hasattr(kernels, compilations.op):
                for layout in LAYOUTS[:2]:
                    for sample in samples(compilations.op, dtype, layout=layout):
                        with backends.use_backend("triton"):
                            run(sample)


if __name__ == "__main__":
    main(getattr(torch, sys.argv[1]))
