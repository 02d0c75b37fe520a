"""Compiles the C++ and CUDA operators: during a setuptools build, or later through ``ro-fast build``.

Two modules against the stable ABIs of Python 3.10 and torch 2.10, so that one binary works with all later versions: ``_C`` for
CPUs, and ``_C_cuda`` if torch is built with CUDA and nvcc is available; whether a GPU is present doesn't matter.
The environment variable RO_FAST_NATIVE controls setuptools: ``auto`` compiles if torch and a compiler are
available and otherwise builds a pure-Python package with a warning, ``1`` fails instead, ``0`` does not try.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

try:
    from setuptools import Extension
    from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
    from setuptools.command.build_ext import build_ext as _build_ext
except ImportError:  # `ro-fast build` needs no setuptools, and an environment may hold one from before bdist_wheel
    _bdist_wheel = _build_ext = object

TORCH_TARGET = "0x020a000000000000"  # torch 2.10
PYTHON_TARGET = "0x030a0000"  # Python 3.10

_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd"]
# What the optimiser may ignore: errno and floating-point traps, which nothing here reads.
_FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wno-psabi"]

# Of compilers ("error:", nvcc's "error #20:") and linkers.
_ERROR = re.compile(r"\berror( #?\w+)?:|[Uu]ndefined (reference|symbol)")

# Machine code for the A100 and the H100, and PTX for later GPUs.
_NVCC = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", "-DUSE_CUDA"]
_NVCC += ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=[sm_90,compute_90]"]


Listener = Callable[[str], None]  # receives the name of each file when it is compiled


class BuildError(Exception):
    """The operators cannot be compiled here. (setuptools loads this file without its package, so without ro_fast.errors.)"""


class build_ext(_build_ext):
    """setuptools' build_ext with our compiler call, falling back to a pure-Python package if it fails."""

    def run(self) -> None:
        wanted = os.environ.get("RO_FAST_NATIVE", "auto")
        if wanted not in ("auto", "0", "1"):
            raise BuildError(f"RO_FAST_NATIVE is '{wanted}'; auto, 0 or 1 is needed")
        try:
            if wanted == "0":
                raise BuildError("RO_FAST_NATIVE is 0")
            cuda = [str(path) for path in cuda_sources(Path("csrc"))]
            if why_no_cuda() is None:
                self.extensions.append(Extension("ro_fast._C_cuda", cuda, py_limited_api=True))
            super().run()
        except BuildError as error:
            if wanted == "1":
                raise
            self.warn(f"ro_fast is built without its native operators: {error}")
            self.extensions: list[Extension] = []
            self.distribution.ext_modules = []

    def build_extension(self, ext: Extension) -> None:
        compile_any = compile_cuda_module if ext.name.endswith("_cuda") else compile_module
        compile_any([Path(source) for source in ext.sources], Path(self.get_ext_fullpath(ext.name)))


class bdist_wheel(_bdist_wheel):
    """setuptools' bdist_wheel, which tags a wheel as pure if nothing was compiled."""

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()


def build_in_place() -> str:
    """Compiles the C++ operators, and CUDA's if possible, into this package; reports in one line each what was built.

    Shows file by file how far it is. What was built belongs to the installed package: uninstalling it removes that too.
    A process that has loaded the old module keeps it: the new one replaces the name, not the file.

    Raises:
        InputError: if the folder cannot be written, or torch, a compiler or the Python headers are missing.
    """
    from ro_fast import installing
    from ro_fast.errors import InputError
    from ro_fast.progress import Progress

    package = Path(__file__).parent.resolve()
    csrc = next((folder for folder in (package / "csrc", package.parent / "csrc") if folder.is_dir()), None)
    if csrc is None:
        raise InputError(f"there are no C++ sources next to {package}; install ro_fast from its wheel, sdist or repository")
    if not os.access(package, os.W_OK):
        raise InputError(f"{package} cannot be written; install ro_fast into your own environment")
    target, cuda_target = package / "_C.abi3.so", package / "_C_cuda.abi3.so"
    reason = why_no_cuda()
    sources, cuda = [csrc / "ops.cpp", *sorted((csrc / "cpu").glob("*.cpp"))], cuda_sources(csrc) if reason is None else []
    try:
        with Progress(len(sources) + len(cuda), "build") as progress:
            progress.reach(0, f"{progress.total} files with {_compiler()[0]}{' and nvcc' if cuda else ''}, {_cores()} at a time")
            compile_module(sources, target, progress.advance)
            installing.add_file(target)
            if cuda:
                compile_cuda_module(cuda, cuda_target, progress.advance)
                installing.add_file(cuda_target)
    except BuildError as error:
        raise InputError(str(error)) from None
    return f"built {target}\n" + (f"built {cuda_target}" if reason is None else f"not built: _C_cuda, because {reason}")


def cuda_sources(csrc: Path) -> list[Path]:
    """The sources of ``_C_cuda``."""
    return [csrc / "ops_cuda.cpp", *sorted((csrc / "cuda").glob("*.cu"))]


def why_no_cuda() -> str | None:
    """None if CUDA operators can be compiled, otherwise why not."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return "torch is not installed, so there is nothing to compile against"
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    return None if _nvcc() else "no nvcc was found (set CUDA_HOME to a CUDA toolkit)"


def compile_cuda_module(sources: Sequence[Path], target: Path, listener: Listener | None = None) -> None:
    """Compiles and links C++ and CUDA sources to a Python module, which appears under its name only when it is complete."""
    torch_root = _torch_root()
    link = ["-shared", f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-ltorch_cuda"]
    _compile([str(_nvcc()), *_NVCC], "-I", sources, target, link, listener)


def compile_module(sources: Sequence[Path], target: Path, listener: Listener | None = None) -> None:
    """Compiles and links C++ sources to a Python module, which appears under its name only when it is complete."""
    # No rpath: torch is imported before the module, so its libraries are already in the process.
    link = ["-shared", f"-L{_torch_root() / 'lib'}", "-ltorch_cpu"]
    if sys.platform == "darwin":
        link += ["-undefined", "dynamic_lookup"]
    # Third-party headers are system headers: their warnings are not ours.
    compiler = [*_compiler(), *_FLAGS, *shlex.split(os.environ.get("CXXFLAGS", ""))]
    _compile(compiler, "-isystem", sources, target, link, listener)


def _compile(
    compiler: list[str], include: str, sources: Sequence[Path], target: Path, link: list[str], listener: Listener | None
) -> None:
    defines = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", f"-DPy_LIMITED_API={PYTHON_TARGET}"]
    flags = [*defines, f"{include}{_torch_root() / 'include'}", f"{include}{sysconfig.get_path('include')}"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        objects = {source: str(Path(folder, f"{source.stem}.o")) for source in sources}
        pool = ThreadPoolExecutor(_cores())
        try:
            # The largest first, so that none is left to be compiled alone at the end.
            order = sorted(sources, key=lambda source: -source.stat().st_size)
            calls = {pool.submit(_call, [*compiler, *flags, "-c", str(s), "-o", objects[s]]): s for s in order}
            for call in as_completed(calls):
                call.result()
                if listener is not None:
                    listener(calls[call].name)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, what hasn't begun isn't compiled in vain
        module = Path(folder, target.name)
        _call([*compiler, *objects.values(), *link, "-o", str(module)])
        module.replace(target)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for candidate in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(candidate[0]):
            return candidate
    missing = f"CXX names {named[0]}, which does not exist" if named else "no C++ compiler was found"
    raise BuildError(f"{missing}; install one (Debian, Ubuntu: apt install g++; macOS: xcode-select --install) or set CXX")


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=str(Path(home, "bin")) if home else None)


def _torch_root() -> Path:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise BuildError(
            "torch is missing, so there is nothing to compile against; install it, then build with --no-build-isolation or run "
            "ro-fast build"
        ) from None
    return Path(str(torch.__file__)).parent


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.strip()]
    first = next(filter(_ERROR.search, said), said[-1] if said else "no message")
    if re.search("error: .*Python.h", first):
        raise BuildError("the Python headers are missing; install them (Debian, Ubuntu: apt install python3-dev)")
    raise BuildError(f"{shlex.join(command[:1])} failed with exit code {done.returncode}: {first}")
