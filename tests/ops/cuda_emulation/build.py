"""Builds CUDA C++ for this CPU, under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

from cuda_emulation.translate import translate, translate_tree

from ro_fast import _build

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
# Little optimisation, so that a sanitizer's message points to a line of the source.
FLAGS = ["-std=c++17", "-O1", "-g", "-fno-omit-frame-pointer", "-Wall", "-Wno-unknown-pragmas", f"-I{HERE}"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def why_not() -> str | None:
    """None if CUDA C++ can be built for this CPU, otherwise why not."""
    if shutil.which("g++") is None:
        return "no g++ was found"
    missing = [name for name in ("libasan.so", "libubsan.so") if not _runtime(name).is_file()]
    return f"g++ has no {', '.join(missing)}" if missing else None


def environment(seed: int) -> dict[str, str]:
    """The environment of a Python process that loads what was built and executes it in orders drawn from a seed."""
    # Python knows nothing of AddressSanitizer, which must be present before the first allocation.
    preload = f"{_runtime('libasan.so')} {_runtime('libstdc++.so')}"
    return os.environ | {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "RO_FAST_SEED": str(seed)}


def build_program(source: Path, target: Path) -> None:
    """Builds one file into a program; raises BuildError with the compiler's messages."""
    translated = target.with_suffix(".cpp")
    translated.write_text(translate(source.read_text(encoding="utf-8")), encoding="utf-8")
    done = subprocess.run(["g++", *FLAGS, str(translated), "-o", str(target)], capture_output=True, text=True)
    if done.returncode:
        raise _build.BuildError(done.stderr)


def build_operators(folder: Path) -> Path:
    """Builds csrc/cuda into a Python module that registers its operators for CPUs."""
    translate_tree(CSRC, folder / "csrc")
    sources = [folder / "csrc/ops_cuda.cpp", *sorted((folder / "csrc/cuda").glob("*.cpp"))]
    target = folder / "_C_cuda.abi3.so"
    with mock.patch.dict(os.environ, CXX="g++", CXXFLAGS=" ".join(FLAGS)):
        _build.compile_module(sources, target)
    return target


def _runtime(name: str) -> Path:
    return Path(subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip())
