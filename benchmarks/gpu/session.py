"""Shared by the measurements: the device, timing on it, and handling of failures."""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .rows import Rows

Run = Callable[[], object]
Times = dict[str, list[float]]  # by contender, milliseconds of each round
T = TypeVar("T")


class DeviceLost(Exception):
    """The process can't use the device any more."""


class Session:
    """One process of measurements.

    A dry one takes the same path on a CPU, with small shapes and one round: it shows that the code runs, its times mean nothing.
    """

    def __init__(self, rows: Rows, dry: bool, seconds: float = 600.0) -> None:
        self.rows, self.dry, self.device = rows, dry, "cpu" if dry else "cuda"
        self._end = time.monotonic() + seconds
        if dry:
            torch.set_num_threads(1)  # small shapes gain nothing from more

    def pick(self, real: T, dry: T) -> T:
        """A size, or in a dry run a smaller one."""
        return dry if self.dry else real

    def left(self) -> float:
        """Seconds until this process has to end."""
        return self._end - time.monotonic()

    def precision(self, tf32: bool) -> None:
        """Whether matrix products and convolutions in float32 may round their factors to TF32."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True

    def half(self, run: Run) -> Run:
        """``run`` in autocast to bfloat16."""

        def cast() -> object:
            with torch.autocast(self.device, torch.bfloat16):
                return run()

        return cast

    def wait(self) -> None:
        """Waits until the device has done all its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def tidy(self) -> None:
        """Frees what is no longer referenced."""
        self.wait()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def guarded(self, name: str, run: Callable[[], T]) -> T | None:
        """The result of ``run``, or None and a row with the error.

        Raises:
            DeviceLost: if the error leaves CUDA unusable in this process.
        """
        try:
            return run()
        except DeviceLost:
            raise
        except Exception as error:
            self.rows.error(name, error)
        try:
            self.tidy()
        except Exception as error:
            raise DeviceLost(str(error)) from error
        return None

    def milliseconds(self, run: Run, flush: Tensor | None = None) -> float:
        """One run, between two CUDA events; ``flush`` is written before it, so that nothing is in the L2 cache."""
        if self.device == "cpu":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if flush is not None:
            flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def median(self, run: Run, flush: Tensor | None = None, rounds: int = 15, seconds: float = 0.5) -> float:
        """Median milliseconds over rounds, at least three, after a warm-up."""
        for _ in range(self.pick(3, 1)):
            run()
        self.wait()
        times: list[float] = []
        end = time.monotonic() + seconds
        while len(times) < self.pick(rounds, 1) and (len(times) < 3 or time.monotonic() < end):
            times.append(self.milliseconds(run, flush))
        return statistics.median(times)

    def race(self, name: str, contenders: dict[str, Run], rounds: int = 9, seconds: float = 6.0, warm_up: int = 3) -> Times:
        """Times all contenders in turn, back and forth, with a row for each; one that fails drops out with a row of its own.

        ``seconds`` is the total for all rounds. There are at least three, as a median needs them.
        """

        times: Times = {}
        for label, run in contenders.items():
            if self.guarded(f"{name}: {label}", functools.partial(self._warm_up, run, warm_up)):
                times[label] = []
        end = time.monotonic() + seconds
        for turn in range(self.pick(rounds, 1)):
            if turn >= 3 and time.monotonic() > end:
                break
            for label in list(times)[:: -1 if turn % 2 else 1]:
                ms = self.guarded(f"{name}: {label}", functools.partial(self.milliseconds, contenders[label]))
                if ms is None:
                    del times[label]
                else:
                    times[label].append(ms)
        for label, each in times.items():
            spread = {"lowest": min(each), "highest": max(each), "rounds": len(each)}
            self.rows.put("time", f"{name}: {label}", ms=statistics.median(each), **spread)
        return times

    def _warm_up(self, run: Run, times: int) -> bool:
        for _ in range(self.pick(times, 1)):
            run()
        self.wait()
        return True

    def faster(self, key: str, name: str, times: Times, ours: str, rival: str) -> None:
        """The row of a target that reports how many times faster ours is: the median of ratios within a round."""
        lacking = [label for label in (ours, rival) if not times.get(label)]
        if lacking:
            self.rows.put("error", name, error=f"{key} has no row: there is no time of {' or '.join(lacking)}")
            return
        ratios = sorted(b / a for a, b in zip(times[ours], times[rival], strict=True))
        low, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.2, 0.8))
        self.rows.target(key, name, statistics.median(ratios), ours=ours, rival=rival, p20=low, p80=high)

    def memory(self, name: str, make: Callable[[], Run]) -> float:
        """Peak reserved MiB while ``run = make()`` is created and first run, including CUDA graphs' pools.

        The allocated part of it is smaller and is reported beside it in the row.
        """
        if self.device == "cpu":
            make()()
            allocated, reserved = 1.0, 1.0
        else:
            self.tidy()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
            run = make()
            for _ in range(3):
                run()
            self.wait()
            peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            allocated, reserved = ((peak - b) / 2**20 for peak, b in zip(peaks, before, strict=True))
        self.rows.put("memory", name, allocated_mib=allocated, reserved_mib=reserved)
        return reserved

    def ran_here(self, event: Any) -> bool:
        """Whether an event of torch's profiler took place on the device: a kernel or a copy, not the call that launched it."""
        return str(event.device_type).endswith(self.device.upper())

    def captured(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Captures all that ``run`` does as one CUDA graph, after a warm-up on a side stream; returns its replay.

        The result is cloned, since the next replay overwrites it. On a CPU it is ``run`` itself.
        """
        if self.device == "cpu":
            return run
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result.clone()

        return replay
