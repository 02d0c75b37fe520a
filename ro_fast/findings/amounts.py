"""Amounts and names in words: fractions as percentage points with their intervals, arms, lists."""

from __future__ import annotations

from collections.abc import Sequence

from ro_fast.said import AND, COMMA, Said, together


def points(value: float) -> str:
    """A fraction as percentage points: 0.152 → "15.2 points"."""
    return Said("points", "{value} points", value=number(value))


def interval(ci: Sequence[float] | None, level: float = 0.95) -> str:
    """An interval of fractions as percentage points: [0.12, 0.184] → "95 % interval 12.0 to 18.4"."""
    if ci is None:
        return Said("no_interval", "no interval")
    return Said("interval", "{level} % interval {span}", level=f"{100 * level:.0f}", span=from_to(ci))


def with_interval(value: float, ci: Sequence[float] | None, level: float = 0.95) -> str:
    """Both together: "15.2 points (95 % interval 12.0 to 18.4)"."""
    return Said("with_interval", "{points} ({interval})", points=points(value), interval=interval(ci, level))


def from_to(ci: Sequence[float]) -> str:
    """The ends of an interval of fractions: [0.12, 0.184] → "12.0 to 18.4"."""
    return Said("from_to", "{low} to {high}", low=number(ci[0]), high=number(ci[1]))


def number(value: float) -> str:
    """A fraction in hundredths: 0.1524 → "15.2"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"


def arm_name(name: str) -> Said:
    """An arm's name as a reader sees it: in English with spaces."""
    return Said("arm", "{spaced}", spaced=name.replace("_", " "), name=name)


def listed(items: Sequence[str]) -> str:
    """Several things in a row.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return items[0] if len(items) == 1 else together([together(items[:-1], COMMA), items[-1]], AND)
