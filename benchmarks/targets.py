"""The targets on a CPU: the group that measures each, and how many rows it has. Each row carries its own must and goal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .paired import Row


@dataclass(frozen=True)
class Target:
    """A target's group of measurements, and its number of rows."""

    group: str
    rows: int


@dataclass(frozen=True)
class Missing:
    """Rows of a target that can't be measured here, and why."""

    target: str
    reason: str


TARGETS = {
    "C1": Target("networks", 3),
    "C2": Target("networks", 3),
    "C3": Target("networks", 2),
    "C4": Target("operators", 4),
    "C5": Target("mlps", 12),
    "C6": Target("operators", 2),
    "C7": Target("networks", 3),
    "C8": Target("evaluation", 1),
    "K": Target("networks", 3),
    "S1": Target("networks", 1),
}


def missing(rows: Sequence[Row], groups: Iterable[str], told: Sequence[Missing]) -> Iterator[Missing]:
    """The targets of some groups of which fewer rows were measured than they have, each with the reasons told.

    >>> list(missing([], ["evaluation"], [Missing("C8", "there is no data")]))
    [Missing(target='C8', reason='0 of 1 rows measured: there is no data')]
    """
    groups = set(groups)
    for name, target in TARGETS.items():
        measured = sum(row.target == name for row in rows)
        if target.group in groups and measured < target.rows:
            reasons = "; ".join(dict.fromkeys(m.reason for m in told if m.target == name)) or "its group does not say why"
            yield Missing(name, f"{measured} of {target.rows} rows measured: {reasons}")
