"""What is available, what is missing, why, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from pathlib import Path

import torch

import ro_fast
import ro_fast.ops  # fills the table of operators
from ro_fast.ops import backends


def report() -> str:
    """Versions, devices, the backends of every operator on every device, and incomplete extras."""
    lines = [
        f"ro_fast {ro_fast.__version__} in {Path(ro_fast.__file__).parent}",
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {_version('numpy')}, "
        f"triton {_version('triton') or 'not installed'}",
        f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"cuda: {_cuda()}",
        "",
    ]
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        lines.append(f"operators on {device} (the first backend runs unless another is named):")
        lines += [f"  {op:32}{_backends(op, device)}" for op in sorted(backends.REFERENCE)]
        for name in backends.BACKENDS:
            reasons = {backends.why_not(name, op, device) for op in backends.REFERENCE} - {None}
            lines += [f"  {name} is missing: {reason}" for reason in sorted(map(str, reasons))]
    lines.append("")
    for extra, packages in extras(importlib.metadata.requires("ro_fast") or []).items():
        missing = [package for package in packages if _version(package) is None]
        state = f"missing {', '.join(missing)}: pip install 'ro_fast[{extra}]'" if missing else "complete"
        lines.append(f"extra [{extra}]: {state}")
    return "\n".join(lines)


def extras(requirements: list[str]) -> dict[str, list[str]]:
    """The packages of each extra, from what an installed package says that it requires.

    >>> extras(["torch>=2.10", "rich; extra == 'train'", 'hydra-core>=1.3; extra == "train"', "ro_fast[train]; extra == 'all'"])
    {'train': ['rich', 'hydra-core']}
    """
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        package, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if package and extra and package[0] != "ro_fast":
            found.setdefault(extra[1], []).append(package[0])
    return found


def _backends(op: str, device: str) -> str:
    running = backends.running(op, device)
    return ", ".join([running, *(name for name in backends.available(op, device) if name != running)])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is built without CUDA; a GPU needs a CUDA build of torch"
    if not torch.cuda.is_available():
        return f"torch is built for CUDA {torch.version.cuda}, but sees no GPU"
    return f"{torch.cuda.get_device_name()} with CUDA {torch.version.cuda}"
