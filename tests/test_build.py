"""Packaging: what is built where, and what a base install lacks and reports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ro_fast import _build
from ro_fast.cli import doctor
from ro_fast.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of a wheel's sources; building writes beside it."""
    for name in ("ro_fast", "benchmarks", "kernels", "configs", "csrc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "results"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def wheel(sources: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    return subprocess.run(command, cwd=sources, capture_output=True, text=True, env=os.environ | environment)


def test_without_a_compiler_a_pure_package_says_so(sources: Path) -> None:
    result = wheel(sources, CXX="/nonexistent/c++", RO_FAST_NATIVE="auto")
    assert result.returncode == 0, result.stderr
    (built,) = (sources / "dist").iterdir()
    assert built.name.endswith("-py3-none-any.whl")
    assert {"ro_fast/data/tops.npz", "ro_fast/data/tops.LICENCE"} <= set(zipfile.ZipFile(built).namelist())
    assert "built without its native operators: CXX names /nonexistent/c++" in result.stdout + result.stderr


def test_native_can_be_demanded(sources: Path) -> None:
    result = wheel(sources, CXX="/nonexistent/c++", RO_FAST_NATIVE="1")
    assert result.returncode != 0 and "/nonexistent/c++" in result.stdout + result.stderr


def test_build_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    with pytest.raises(InputError, match=r"CXX names /nonexistent/c\+\+.*apt install g\+\+"):
        _build.build_in_place()


def test_a_source_that_does_not_compile_leaves_the_module_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.cpp").write_text("int f() { return wrong; }")
    target = tmp_path / "_C.abi3.so"
    target.write_text("the old one")
    with pytest.raises(_build.BuildError, match="wrong"):
        _build.compile_module([tmp_path / "bad.cpp"], target)
    assert target.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_C.abi3.so", "bad.cpp"]


def test_doctor_lists_operators_and_what_brings_a_missing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ro_fast.ops._native.why_missing", lambda device: "ro_fast._C is not built (run: ro-fast build)")
    text = doctor.report()
    assert "native is missing: ro_fast._C is not built (run: ro-fast build)" in text
    assert all(op in text for op in ("pgd_step", "pgd_init", "weighted_cross_entropy", "class_moments"))


def test_pyproject_lists_every_package_and_source() -> None:
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "ro_fast").rglob("__init__.py")}
    mapped = {f"ro_fast.{name}" for name in ("benchmarks", "benchmarks.faulty", "benchmarks.gpu", "configs", "csrc", "kernels")}
    assert set(settings["packages"]) == found | mapped
    (module,) = settings["ext-modules"]
    kinds = (".cpp", ".h", ".cu", ".cuh")
    on_disk = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*") if path.suffix in kinds}
    assert {*module["sources"], *module["depends"]} == on_disk


def test_cuda_is_built_where_torch_and_nvcc_are_and_else_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.version.cuda", None)
    assert _build.why_no_cuda() == "this torch is built without CUDA"
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert "CUDA_HOME" in str(_build.why_no_cuda())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text('#!/bin/sh\necho "$@" >> $(dirname $0)/calls; exit 1')
    (tmp_path / "bin" / "nvcc").chmod(0o755)
    assert _build.why_no_cuda() is None
    with pytest.raises(_build.BuildError, match="nvcc failed"):
        _build.compile_cuda_module(_build.cuda_sources(ROOT / "csrc"), tmp_path / "_C_cuda.abi3.so")
    calls = (tmp_path / "bin" / "calls").read_text()
    assert "sm_90" in calls and "csrc/cuda/" in calls


def test_kernels_is_no_top_level_package() -> None:
    result = subprocess.run([sys.executable, "-c", "import kernels"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and "ro_fast.kernels" in result.stderr
