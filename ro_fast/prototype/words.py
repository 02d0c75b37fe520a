"""The texts of a prototype's page, and its numbers and actions in words."""

from __future__ import annotations

from pathlib import Path

from ro_fast.findings.decision import MORE, Action
from ro_fast.findings.statistics import Estimate, Interval
from ro_fast.pages.words import Words as Texts
from ro_fast.prototype.result import Prototype


class Words(Texts):
    """The page's texts, and numbers and actions in words."""

    def __init__(self, language: str) -> None:
        super().__init__(Path(__file__).parent / "texts", language)

    def estimate(self, value: float, ci95: Interval | None, sign: bool = False) -> str:
        """Points with their interval, from fractions, for use within a sentence."""
        number, span = self.parts(value, ci95, sign)
        return str(self("estimate", value=number, interval=span) if span else self("bare", value=number))

    def change(self, fall: Estimate) -> str:
        """A fall of accuracy as a change, in points with their interval: a rise is positive."""
        return self.estimate(*turned(fall), sign=True)

    def parts(self, value: float, ci95: Interval | None, sign: bool = False) -> tuple[str, str]:
        """The number and its interval, "" with a single seed, which has none."""
        number = points(value, "+" if sign else "")
        if ci95 is None:
            return number, ""
        signs = "+" if ci95[0] < 0 else ""  # on both ends or on neither
        return number, self("interval", lo=points(ci95[0], signs), hi=points(ci95[1], signs))

    def time(self, hours: float) -> str:
        """A length of time, in the unit that suits it."""
        unit = unit_of(hours)
        value = hours / HOURS[unit]
        if unit == "second" and value < 1:
            return str(self("time.less"))
        return str(self(f"time.{unit}", value=f"{value:.1f}" if value < 10 else f"{value:.0f}"))

    def percent(self, share: float) -> str:
        """A probability, without the certainty that rounding would lend it."""
        key = "percent_below" if share < 0.01 else "percent_above" if share > 0.99 else "percent"
        return str(self(key, value=f"{100 * share:.0f}"))

    def action(self, action: Action, result: Prototype) -> str:
        """What to do, in words; an arm without a text of its own is described by what it changes."""
        name, plan = action.action, result.plan
        if action.finding is not None:
            return str(self("action.repair", what=self(f"kind.{action.finding.kind}")["name"]))
        if name == MORE:
            key = "action.more_data_there" if 2 * plan.train <= plan.available else "action.more_data"
            return str(self(key, size=2 * plan.train, available=plan.available))
        return str(self(f"action.{name}")) if name in self.texts["action"] else action.factor or name


HOURS = {"hour": 1.0, "minute": 1 / 60, "second": 1 / 3600}


def unit_of(hours: float) -> str:
    """The largest unit of which a length of time has one at least, else the second."""
    return next((unit for unit, length in HOURS.items() if hours >= length), "second")


def turned(fall: Estimate) -> tuple[float, Interval | None]:
    """A fall as a change, and its interval."""
    return -fall.mean, None if fall.ci95 is None else (-fall.ci95[1], -fall.ci95[0])


def points(value: float, sign: str = "") -> str:
    """A fraction in points."""
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}".replace("-", "−")  # + 0.0: no "-0.0"
