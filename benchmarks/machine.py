"""What numbers depend on: the CPU they were measured on."""

from __future__ import annotations

from pathlib import Path


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return "avx512_bf16" in cpuinfo()


def cpuinfo() -> str:
    """What Linux tells of the CPU, "" elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
