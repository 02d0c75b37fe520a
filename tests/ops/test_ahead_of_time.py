"""Every Triton kernel compiles for an H100, in each supported dtype, with the real compiler and without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ro_fast.ops import OPS
from ro_fast.testing import DIFFERENTIABLE

kernels = pytest.importorskip("ro_fast.kernels", reason="triton is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_each_kernel_gives_machine_code_for_sm_90(dtype: str) -> None:
    # In a separate process: in this one kernels are defined for the interpreter.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("ahead_of_time.py")), dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    compiled = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    assert {op for op, _ in compiled} == {op for op in OPS if hasattr(kernels, op)}
    assert compiled >= {(op, "_backward") for op in DIFFERENTIABLE}
