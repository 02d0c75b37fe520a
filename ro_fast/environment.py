"""What a result depends on besides its configuration: machine, versions and code."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

import ro_fast
from ro_fast.errors import InputError
from ro_fast.ops import backends
from ro_fast.storage.checkpoint import source_digest


@dataclass(frozen=True)
class Environment:
    """Versions, machine, threads and operator backends; None for whatever an older file lacks."""

    ro_fast: str | None = None
    source: str | None = None  # digest of the code
    torch: str | None = None
    python: str | None = None
    machine: str | None = None
    cpu: str | None = None
    device: str | None = None
    threads: int | None = None
    backends: dict[str, str] = field(default_factory=dict)  # operator -> backend
    world_size: int = 1  # processes that train a run together


def environment(device: torch.device, world_size: int = 1) -> Environment:
    """Describes the current environment."""
    return Environment(
        ro_fast.__version__,
        source_digest(),
        str(torch.__version__),
        platform.python_version(),
        platform.machine(),
        cpu_name(),
        torch.cuda.get_device_name(device) if device.type == "cuda" and torch.cuda.is_available() else device.type,
        torch.get_num_threads(),
        {op: backends.running(op, device.type) for op in sorted(backends.REFERENCE)},
        world_size,
    )


def cpu_name() -> str:
    """The processor's name as reported by Linux, on other systems by Python."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def choose_device(name: str) -> torch.device:
    """Resolves a device; "auto" is the GPU if there is one.

    Raises:
        InputError: if a device is unknown or not available.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device '{name}' is unknown; available: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: torch sees no GPU here; use device=cpu or run ro-fast doctor")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> float:
    """Bytes of memory that this process may use: the machine's, or its container's; infinite if unknown."""
    known = [float("inf")]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            known.append(float(Path(file).read_text()))
    return min(known)


def use_threads(threads: int | None) -> None:
    """Sets torch's CPU threads, also for MKL and OpenMP libraries loaded later."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads = {threads} should be at least 1")
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far, in 2²⁰ bytes: of tensors on a GPU, of the whole process on a CPU; NaN if it isn't reported."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def keep_freed_memory() -> None:
    """Lets a dedicated process keep the memory that its tensors free; does nothing if the C library is not glibc.

    glibc returns large blocks to the system and faults them in again, page by page, at the next step: a training epoch
    on a CPU takes 20 to 30 % longer that way. The setting affects the whole process, so libraries don't call this.
    """
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)
        mallopt(m_top_pad, 1 << 26)
