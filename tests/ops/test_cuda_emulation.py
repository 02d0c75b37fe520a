"""CUDA C++ executed on this CPU under AddressSanitizer and UndefinedBehaviorSanitizer, threads in random order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulation import build, translate

from ro_fast._build import BuildError
from ro_fast.ops import OPS
from ro_fast.testing import DIFFERENTIABLE

if reason := build.why_not():
    pytest.skip(f"CUDA C++ can't be built for this CPU: {reason}", allow_module_level=True)

NOT_IN_CUDA = {"pgd_mlp", "winograd_conv"}  # on a GPU there are Triton's and cuDNN's


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("faults") / "faults"
    build.build_program(build.HERE / "faults.cu", target)
    return target


def output(program: Path, name: str, seed: int) -> str:
    environment = os.environ | {"RO_FAST_SEED": str(seed)}
    return subprocess.run([program, name], capture_output=True, text=True, env=environment).stdout


# -- the emulator ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum", "dynamic shared", "even address", "votes", "atomics", "too many threads"])
def test_what_is_right_is_right_in_every_order(name: str, program: Path) -> None:
    assert {output(program, name, seed) for seed in range(8)} == {"right\n"}


@pytest.mark.parametrize("name", ["no barrier", "no second barrier", "unwritten shared"])
def test_a_missing_barrier_and_unwritten_memory_give_wrong_results(name: str, program: Path) -> None:
    assert {output(program, name, seed) for seed in range(8)} == {"wrong\n"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("return before a barrier", "__syncthreads is reached by 40 of 64 threads"),
        ("barriers of two lines", "__syncthreads is reached at different lines"),
        ("lane missing", "an operation of a warp is reached by 31 of 32 threads"),
    ],
)
def test_a_launch_fails_where_threads_do_not_meet(name: str, words: str, program: Path) -> None:
    assert words in output(program, name, 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("far write", "heap-buffer-overflow"),
        ("far shared", "heap-buffer-overflow"),
        ("too little dynamic shared", "heap-buffer-overflow"),
        ("odd address", "misaligned address"),
    ],
)
def test_sanitizers_see_what_is_out_of_bounds(name: str, words: str, program: Path) -> None:
    done = subprocess.run([program, name], capture_output=True, text=True)
    assert done.returncode != 0 and words in done.stderr


@pytest.mark.parametrize(
    "kernel",
    ["__global__ void f(int* p) { *p = __clz(*p); }", "__constant__ int numbers[4];", "__shared__ int odd[2], *pointer;"],
)
def test_what_is_not_emulated_does_not_compile(kernel: str, tmp_path: Path) -> None:
    source = tmp_path / "kernel.cu"
    source.write_text(f"#include <cuda_runtime.h>\n{kernel}\nint main() {{}}\n")
    with pytest.raises((BuildError, ValueError)):
        build.build_program(source, tmp_path / "kernel")


def test_launches_and_shared_memory_are_rewritten() -> None:
    assert translate.translate("kernel<<<n, 32>>>(p);") == "cuda_on_cpu::launcher(kernel, n, 32)(p);"
    both = "auto& a = cuda_on_cpu::shared<int[2][k + 1]>([] {}); auto& b = cuda_on_cpu::shared<int>([] {});"
    assert translate.translate("__shared__ int a[2][k + 1], b;") == both


# -- the operators -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_operators_pass_their_own_tests_in_two_orders(tmp_path: Path) -> None:
    operators = build.build_operators(tmp_path)
    wanted = " and ".join(("as_close_to_float64", "native", *(f"not {name}" for name in sorted(NOT_IN_CUDA))))
    # A sanitizer writes to file descriptor 2 and ends the process: output captured there by pytest would be lost.
    options = ["-q", "-x", "-p", "cuda_emulation.plugin", "-p", "no:cacheprovider", "--capture=sys", "-k", wanted]
    path = os.pathsep.join([str(build.HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    test = Path(__file__).with_name("test_ops.py")
    forward, backward = 9 * (len(OPS) - len(NOT_IN_CUDA)), 3 * len(DIFFERENTIABLE)  # dtypes × layouts, dtypes
    for seed in range(2):
        environment = build.environment(seed) | {"RO_FAST_EMULATED": str(operators), "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-m", "pytest", *options, test], capture_output=True, text=True, env=environment)
        told = "an operator without CUDA C++ belongs into NOT_IN_CUDA; " if done.returncode == 0 else ""
        assert f"{forward + backward} passed" in done.stdout, f"{told}seed {seed}: {done.stdout[-6000:]}{done.stderr[-6000:]}"
