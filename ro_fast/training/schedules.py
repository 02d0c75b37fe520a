"""Learning-rate schedules as functions of the completed fraction of the run."""

from __future__ import annotations


def piecewise(progress: float, lr: float, drops: list[float]) -> float:
    """``lr · 0.1^k``, k the number of drops passed: the schedule of Rice et al. 2020 (arXiv 2002.11569), updated at each step.

    >>> [round(piecewise(t, 0.1, [0.5, 0.75]), 6) for t in (0.0, 0.499, 0.5, 0.75, 1.0)]
    [0.1, 0.1, 0.01, 0.001, 0.001]
    """
    return lr * 0.1 ** sum(progress >= drop for drop in drops)
