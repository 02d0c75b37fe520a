"""Progress of long work: live bars on a terminal, plain lines elsewhere, both from the same events."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class EpochDone:
    """A run's report after each epoch."""

    arm: str
    seed: int
    epoch: int  # completed epochs
    epochs: int
    test_robust_acc: float
    test_acc: float
    notice: str = ""  # anything else to report, such as an alarm


Listener = Callable[[EpochDone], None]


class _Notices(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"ro_fast: {record.getMessage()}", file=sys.stderr, flush=True)


def show_notices() -> None:
    """Prints ro_fast's log messages, such as what a first call had to compile, among the lines of progress."""
    log = logging.getLogger("ro_fast")
    if not any(isinstance(handler, _Notices) for handler in log.handlers):
        log.addHandler(_Notices())
    log.setLevel(logging.INFO)


class Progress:
    """Shows epoch, arm, seed, robust accuracy and time left during work of ``total`` epochs.

    ``add`` counts epochs that were found done, so that they don't enter the estimate of the time left.
    """

    _EVERY = 5.0  # seconds between plain lines

    def __init__(self, total: int, title: str) -> None:
        self.total, self.title = total, title
        self.done = 0
        self._found = 0
        self._start = time.monotonic()
        self._said = -float("inf")
        self._bars: Any = None
        self._tasks: dict[tuple[str, int], Any] = {}

    def __enter__(self) -> Progress:
        show_notices()
        if sys.stderr.isatty():
            self._bars = _bars()
        if self._bars is not None:
            self._bars.start()
            self._all = self._bars.add_task(self.title, total=self.total, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def add(self, epochs: int) -> None:
        """Counts epochs that need no work: found on disk, or shared by several arms."""
        self.done += epochs
        self._found += epochs
        if self._bars is not None:
            self._bars.update(self._all, completed=self.done)

    def extend(self, epochs: int, found: int) -> None:
        """Adds epochs to the total, of which some are found done."""
        self.total += epochs
        if self._bars is not None:
            self._bars.update(self._all, total=self.total)
        self.add(found)

    def __call__(self, event: EpochDone) -> None:
        """Receives one epoch's report."""
        self.done += 1
        if event.notice:
            print(f"ro_fast: {event.notice}", file=sys.stderr, flush=True)
        note = f"robust {event.test_robust_acc:.3f}, natural {event.test_acc:.3f}"
        name = f"{event.arm}, seed {event.seed}"
        if self._bars is None:
            self._line(f"{self.title}: {name}, epoch {event.epoch}/{event.epochs}, {note}")
            return
        key = (event.arm, event.seed)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(name, total=event.epochs, note=note)
        self._bars.update(self._tasks[key], completed=event.epoch, note=note)
        if event.epoch == event.epochs:
            self._bars.remove_task(self._tasks.pop(key))
        self._bars.update(self._all, completed=self.done)

    def reach(self, done: int, note: str) -> None:
        """Receives the report that ``done`` of the total is done."""
        self.done = max(self.done, done)
        if self._bars is None:
            self._line(f"{self.title}: {note}")
        else:
            self._bars.update(self._all, completed=self.done, note=note)

    def advance(self, note: str) -> None:
        """Receives the report that one more of the total is done."""
        self.reach(self.done + 1, note)

    def _line(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said < self._EVERY and self.done < self.total:
            return
        self._said = now
        worked = self.done - self._found
        left = f", {clock((now - self._start) / worked * (self.total - self.done))} left" if worked else ""
        print(f"[{self.done}/{self.total}] {text}{left}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as minutes, or hours, as a clock shows them: 75 → "1:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bars() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
