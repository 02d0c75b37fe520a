"""Times two things against each other in one process: interleaved, warmed up, with a copy canary alongside."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler, which counts memory here, logs each start and stop

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Row:
    """How many times faster ``ours`` is than ``rival``: the median of paired ratios, and the underlying times."""

    name: str
    ours: str
    rival: str
    ratio: float
    ratio_p20: float
    ratio_p80: float
    ours_ms: float
    rival_ms: float
    pairs: int
    ours_mb: float  # peak memory of its tensors beyond its inputs, in 2²⁰ bytes
    rival_mb: float
    canary: float  # copy speed after the row relative to that before it; far from 1 the machine was loaded
    target: str | None = None  # from the target table
    must: float | None = None
    goal: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The row with its verdict, if it has a target."""
        return asdict(self) | {"met": None if self.must is None else not self.falls_short("must")}

    def falls_short(self, limit: str) -> bool:
        """Whether the row has that limit, "must" or "goal", and misses it."""
        wanted = self.must if limit == "must" else self.goal
        return wanted is not None and self.ratio < wanted


def paired(
    name: str,
    ours: tuple[str, Callable[[], object]],
    rival: tuple[str, Callable[[], object]],
    seconds: float = 4.0,
    at_least: int = 5,
    **target: Any,
) -> Row:
    """Runs A B B A A B … for about ``seconds`` after two warm-up runs each, and compares neighbours."""
    for run in (ours[1], rival[1]) * 2:
        run()
    inner = max(1, round(0.002 / max(_time(ours[1], 1), 1e-9)))  # short ones are repeated until the clock resolves them
    before = copy_speed()
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(pairs) < at_least:
        if len(pairs) % 2:
            b, a = _time(rival[1], inner), _time(ours[1], inner)
        else:
            a, b = _time(ours[1], inner), _time(rival[1], inner)
        pairs.append((a, b))
    ratios = sorted(b / a for a, b in pairs)
    a_ms, b_ms = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    quantiles = [ratios[round(q * (len(ratios) - 1))] for q in (0.5, 0.2, 0.8)]
    canary = copy_speed() / before
    return Row(name, ours[0], rival[0], *quantiles, a_ms, b_ms, len(pairs), peak_mb(ours[1]), peak_mb(rival[1]), canary, **target)


def peak_mb(run: Callable[[], object]) -> float:
    """The peak memory of tensors created in one run, in 2²⁰ bytes, from the profiler's record of the allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    assert record.profiler is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = (e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(itertools.accumulate(changes, initial=0)) / 2**20


def copy_speed(megabytes: int = 64) -> float:
    """Bytes read and written per second by a plain copy, in GB/s."""
    source = torch.rand(megabytes * 2**18)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * source.nbytes / min(_time(lambda: target.copy_(source), 1) for _ in range(5)) / 1e9


def _time(run: Callable[[], object], inner: int) -> float:
    start = time.perf_counter()
    for _ in range(inner):
        run()
    return (time.perf_counter() - start) / inner
