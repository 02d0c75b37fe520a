"""The budget of a prototype and its plan, kept on disk for when the command is continued."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ro_fast.config import PrototypeConfig
from ro_fast.errors import InputError
from ro_fast.prototype.plan import Plan, seconds_of
from ro_fast.storage import checkpoint, records
from ro_fast.storage.saving import writing

# Not part of a prototype's identity; more time and seeds continue it.
_ELSEWHERE = ("out", "budget", "seeds", "report", "cost", "jobs", "threads", "prefixes", "teachers")


@dataclass(frozen=True)
class _Kept:
    """The contents of plan.json."""

    of: str  # digest of the configuration
    plan: Plan
    spent: float  # seconds


class Clock:
    """The budget and the plan, kept in plan.json so that a continued prototype keeps its subset and counts all its time."""

    def __init__(self, config: PrototypeConfig) -> None:
        self.budget = seconds_of(config.budget)
        self.plan: Plan | None = None
        self._before, self._start = 0.0, time.monotonic()
        self._path = Path(config.out) / "plan.json"
        self._of = checkpoint.digest({k: v for k, v in checkpoint.flat(config).items() if k.split(".")[0] not in _ELSEWHERE})
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        kept = records.read(_Kept, self._path, "choose another out=")
        self.plan, self._before = kept.plan, kept.spent
        if kept.of != self._of:
            raise InputError(f"{self._path.parent} holds a prototype with another configuration; choose another out=")

    @property
    def spent(self) -> float:
        """Seconds spent, including earlier attempts."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds left of the budget."""
        return self.budget - self.spent

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Work that the budget is not for."""
        begun = time.monotonic()
        yield
        self._start += time.monotonic() - begun

    def keep(self, plan: Plan) -> None:
        """Stores the plan and the time spent so far."""
        self.plan = plan
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            records.write(self._path, _Kept(self._of, plan, self.spent))
