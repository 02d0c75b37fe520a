"""What is available, what is missing, why, and how to get it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

import ro_fast
import ro_fast.ops  # fills the table of operators
from ro_fast import installing
from ro_fast.ops import backends


def report() -> str:
    """Versions, devices, the backends of every operator on every device, and incomplete extras."""
    lines = [
        f"ro_fast {ro_fast.__version__} in {Path(ro_fast.__file__).parent}{_passed_over()}",
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {installing.version('numpy')}, "
        f"triton {installing.version('triton') or 'not installed'}",
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
    lines += _extras()
    return "\n".join(lines)


def _passed_over() -> str:
    installed = installing.installed_in()
    if installed in (None, installing.PACKAGE):
        return ""
    return f", which hides the installed {installed}; Python in another folder runs that one, as does python -P from 3.11 on"


def _extras() -> list[str]:
    if installing.installed_in() is None:
        return [f"ro_fast is not installed, so that its extras are unknown: {installing.pip_install('train')}"]
    lines = []
    for extra in installing.extras():
        missing = ", ".join(installing.missing(extra))
        lines.append(f"extra [{extra}]: {f'missing {missing}: {installing.pip_install(extra)}' if missing else 'complete'}")
    return lines


def _backends(op: str, device: str) -> str:
    running = backends.running(op, device)
    return ", ".join([running, *(name for name in backends.available(op, device) if name != running)])


def _cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is built without CUDA; a GPU needs a CUDA build of torch"
    if not torch.cuda.is_available():
        return f"torch is built for CUDA {torch.version.cuda}, but sees no GPU"
    return f"{torch.cuda.get_device_name()} with CUDA {torch.version.cuda}"
