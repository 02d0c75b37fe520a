"""What a budget can decide: beforehand by the usual spread between seeds, afterwards by the one that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ro_fast.findings.decision import Action
from ro_fast.findings.ranking import OPEN
from ro_fast.prototype.plan import SEEDS, Plan

USUAL = 0.0095  # standard deviation of gains paired by seed: the median of 136 arms in benchmarks/results/cpu
MOST = 20  # seeds; what more of them would decide is too small to matter here
SPARE = 1.1


@dataclass(frozen=True)
class Enough:
    """How many seeds, and how long a budget, would probably decide what is open."""

    actions: list[str]
    seeds: int
    minutes: int

    @property
    def options(self) -> str:
        """As the command takes them."""
        return f"budget={self.minutes}min seeds={self.seeds}"


def least_gain(seeds: int, comparisons: int) -> float | None:
    """The gain, a fraction, that so many seeds usually tell apart from none; None for a single seed.

    The half width of an interval at 95 % for all comparisons at once: ``t(1 − 0.05/(2m), n − 1)·USUAL/√n``.

    >>> round(least_gain(3, 5), 3), round(least_gain(5, 5), 3)
    (0.054, 0.02)
    """
    return None if seeds < 2 else _width(seeds, comparisons) * USUAL


def enough(actions: Sequence[Action], seeds: int, plan: Plan, spent: float) -> Enough | None:
    """What would decide the measured actions that are open, if gains and spreads stay as they are; after a single seed, which
    shows no spread, what gives all of them an interval.

    Args:
        actions: as judged after so many seeds.
        seeds: trained so far.
        plan: says how long one seed takes.
        spent: seconds so far.

    Returns:
        None if nothing is open that at most :data:`MOST` seeds would decide.
    """
    measured = [action for action in actions if action.factor is not None]
    a_seed = max(plan.seed_seconds, spent / seeds)  # the second counts the check too, so it is on the safe side
    if seeds == 1:
        return Enough([action.action for action in measured], SEEDS, _minutes(spent + (SEEDS - 1) * a_seed))
    needed = {}
    for action in measured:
        if action.verdict == OPEN and action.gain is not None and action.gain.ci95 is not None:
            spread = (action.gain.ci95[1] - action.gain.difference) / _width(seeds, len(measured))
            for more in range(seeds + 1, MOST + 1):
                if _width(more, len(measured)) * spread < abs(action.gain.difference):
                    needed[action.action] = more
                    break
    if not needed:
        return None
    most = max(needed.values())
    return Enough(list(needed), most, _minutes(spent + (most - seeds) * a_seed))


def _minutes(seconds: float) -> int:
    return math.ceil(SPARE * seconds / 60)


def _width(seeds: int, comparisons: int) -> float:
    """Of an interval, in standard deviations of one seed's value to either side."""
    from scipy.stats import t

    return float(t.ppf(1 - 0.05 / (2 * max(1, comparisons)), seeds - 1)) / math.sqrt(seeds)
