"""What measurements depend on: the CPU and the code."""

from __future__ import annotations

import subprocess
from pathlib import Path


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return "avx512_bf16" in cpuinfo()


def cpuinfo() -> str:
    """CPU details as reported by Linux, "" elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def commit() -> str:
    """The commit checked out, with "-dirty" if files differ from it; "" outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parent).stdout.strip()
    except FileNotFoundError:
        return ""
