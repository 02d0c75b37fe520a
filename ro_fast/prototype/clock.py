"""The budget of a prototype, and what it planned, kept on disk for the command that goes on."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from ro_fast.config import PrototypeConfig
from ro_fast.errors import InputError
from ro_fast.prototype.plan import Plan, Sizes, seconds_of
from ro_fast.storage import checkpoint

_ELSEWHERE = ("out", "report", "jobs", "threads", "prefixes", "teachers")  # no part of what a prototype is


class Clock:
    """The budget and the plan, kept in plan.json so that a prototype that goes on keeps its subset and counts all its time."""

    def __init__(self, config: PrototypeConfig) -> None:
        self.budget = seconds_of(config.budget)
        self.plan: Plan | None = None
        self._before, self._start = 0.0, time.monotonic()
        self._path = Path(config.out) / "plan.json"
        self._of = checkpoint.digest({k: v for k, v in checkpoint.flat(config).items() if k.split(".")[0] not in _ELSEWHERE})
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            sizes, available = Sizes(**kept["sizes"]), Sizes(**kept["available"])
            self.plan = Plan(sizes, available, int(kept["epochs"]), float(kept["seed_seconds"]))
            self._before, of = float(kept["spent"]), kept["of"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path} is not a prototype's plan; give another out=") from error
        if of != self._of:
            raise InputError(f"{self._path.parent} holds a prototype of another configuration; give another out=")

    @property
    def spent(self) -> float:
        """Seconds, with those of earlier attempts."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - self.spent

    def keep(self, plan: Plan) -> None:
        """Writes down the plan and the time spent so far."""
        self.plan = plan
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            kept = {"of": self._of, **dataclasses.asdict(plan), "spent": self.spent}
            checkpoint.write_text(self._path, json.dumps(kept, indent=1))
        except OSError as error:
            raise InputError(
                f"out={self._path.parent} cannot be written ({error.strerror}): give a folder you may write to"
            ) from error
