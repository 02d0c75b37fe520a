"""Timing two things against each other on an NVIDIA GPU: in turn, by CUDA events, with their peak of allocated memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .paired import Row

Run = Callable[[], object]


def milliseconds(run: Run, flush: Tensor | None) -> float:
    """One run between two events; ``flush`` is written before, so that nothing is found in the L2 cache."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    if flush is not None:
        flush.zero_()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def peak_mb(run: Run) -> float:
    """What one run takes beyond what is there, in 2²⁰ bytes."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def paired(
    name: str,
    ours: tuple[str, Run],
    rival: tuple[str, Run],
    cold: bool = False,
    scale: float = 1.0,
    rounds: int = 15,
    warm_up: int = 3,
    **target: Any,
) -> Row:
    """Medians of neighbouring runs, in turn; ``scale`` multiplies the ratio where the two move unlike numbers of bytes."""
    for run in (ours[1], rival[1]) * warm_up:
        run()
    flush = torch.empty(2**28, dtype=torch.uint8, device="cuda") if cold else None
    pairs = []
    for i in range(rounds):
        if i % 2:
            b, a = milliseconds(rival[1], flush), milliseconds(ours[1], flush)
        else:
            a, b = milliseconds(ours[1], flush), milliseconds(rival[1], flush)
        pairs.append((a, b))
    ratios = sorted(scale * b / a for a, b in pairs)
    quantiles = [ratios[round(q * (len(ratios) - 1))] for q in (0.5, 0.2, 0.8)]
    a_ms, b_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(name, ours[0], rival[0], *quantiles, a_ms, b_ms, len(pairs), peak_mb(ours[1]), peak_mb(rival[1]), 1.0, **target)
