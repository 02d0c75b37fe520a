"""Means, differences, trends and correlations over seeds, with their 95 % intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ro_fast.errors import InputError
from ro_fast.installing import pip_install

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, None if there is one seed and so no spread."""

    mean: float
    ci95: Interval | None


@dataclass(frozen=True)
class TestedEstimate(Estimate):
    """An estimate with the two-sided p-value of its test, None for a single seed."""

    p: float | None


@dataclass(frozen=True)
class Peak(TestedEstimate):
    """How far a metric's best level lies above the nearer end of the levels."""

    best: int  # the level with the greatest mean


def mean_ci95(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its 95 % interval, mean ± t(0.975, n − 1) · s / √n (Student 1908).

    Args:
        values: one number per seed, at least one.

    Raises:
        InputError: if there is no value, or one is not finite.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("mean_ci95 needs at least one value, got none")
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"mean_ci95 needs finite values, got {numbers}: a seed's run failed or was left out")
    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n == 1:
        return Estimate(mean, None)
    try:
        from scipy.stats import t
    except ImportError as error:
        raise InputError(f"95 % intervals need scipy: {pip_install('train')}") from error
    spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Estimate(mean, (mean - half, mean + half))


def t_interval(values: Sequence[float], against: float = 0.0) -> TestedEstimate:
    """:func:`mean_ci95` with the two-sided p-value for a mean of ``against`` (Student's t).

    If all values are equal there is no spread to judge by: p is 1 if they equal ``against``, else 0.

    >>> round(t_interval([0.1, 0.2, 0.3]).p, 4)
    0.0742
    """
    found = mean_ci95(values)
    if found.ci95 is None:
        return TestedEstimate(found.mean, None, None)
    if max(values) - min(values) <= 1e-12:
        return TestedEstimate(found.mean, found.ci95, 1.0 if abs(found.mean - against) <= 1e-12 else 0.0)
    from scipy.stats import ttest_1samp

    return TestedEstimate(found.mean, found.ci95, float(ttest_1samp(values, against).pvalue))


def trend(values: Sequence[Sequence[float]]) -> TestedEstimate:
    """Does a metric rise with the level, seed by seed? Page's trend test (1963) on ranks within each seed.

    Args:
        values: [levels][seeds], levels in order, at least three.

    Returns:
        mean and interval of last level minus first; two-sided p-value for no order.

    Raises:
        InputError: with fewer than three levels.
    """
    if len(values) < 3:
        raise InputError(f"a trend needs at least three levels, got {len(values)}")
    found = t_interval([last - first for first, last in zip(values[0], values[-1], strict=True)])
    if found.ci95 is None:
        return found
    import numpy as np
    from scipy.stats import page_trend_test

    rising = np.array(values).T  # [seeds, levels]
    p = min(float(page_trend_test(data).pvalue) for data in (rising, rising[:, ::-1]))
    return TestedEstimate(found.mean, found.ci95, min(1.0, 2 * p))


def peak(values: Sequence[Sequence[float]]) -> Peak:
    """Is a metric best at an inner level? By paired differences of the best level to both ends.

    Args:
        values: [levels][seeds], levels in order, at least three.

    Returns:
        If the best level is an inner one, mean and interval of the smaller of its differences to the ends, and the larger of
        both p-values; otherwise the mean is minus the end's difference to the best inner level. The best is chosen on the numbers
        it is tested on, so p is somewhat too small.
    """
    means = [math.fsum(level) / len(level) for level in values]
    best = means.index(max(means))

    def minus(a: int, b: int) -> TestedEstimate:
        return t_interval([x - y for x, y in zip(values[a], values[b], strict=True)])

    if 0 < best < len(values) - 1:
        ends = [minus(best, 0), minus(best, -1)]
        nearer = min(ends, key=lambda end: end.mean)
        ps = [end.p for end in ends if end.p is not None]
        return Peak(nearer.mean, nearer.ci95, max(ps) if len(ps) == len(ends) else None, best)
    inner = max(range(1, len(values) - 1), key=means.__getitem__)
    lower = minus(inner, best)
    return Peak(lower.mean, lower.ci95, lower.p, best)


def rank_correlation(strata: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> TestedEstimate:
    """Spearman's correlation within strata, so that what differs between them can't make one (Simpson's paradox).

    Of each stratum ρ over the means of its arms, since the seeds of an arm say much the same; then the mean of ρ over strata,
    weighted by their arms minus one.

    Args:
        strata: of each its arms, of each arm its points (x, y), one per seed; at least three arms per stratum.

    Returns:
        mean: that mean; ci95: percentiles of a bootstrap that draws strata, or arms within them where there are fewer than four;
        p: the fraction of permutations of the arms within their strata that correlate as strongly. Seeded.
    """
    import numpy as np
    from scipy.stats import rankdata

    means = [np.array([np.mean(np.asarray(points, dtype=float), axis=0) for points in arms]) for arms in strata]
    weights = np.array([len(arms) - 1 for arms in means], dtype=float)
    random = np.random.default_rng(0)

    def ranks(values: Any) -> Any:
        centred = rankdata(values) - (len(values) + 1) / 2
        return centred / max(float(np.linalg.norm(centred)), 1e-12)  # equal values correlate with nothing

    def within(x: Any, y: Any) -> float:
        return float(ranks(x) @ ranks(y))

    each = np.array([within(*arms.T) for arms in means])
    found = float(np.average(each, weights=weights))
    drawn = np.zeros(5040)
    for arms, weight in zip(means, weights, strict=True):
        x, y = ranks(arms[:, 0]), ranks(arms[:, 1])
        orders = random.permuted(np.tile(np.arange(len(y)), (len(drawn), 1)), axis=1)
        drawn += weight / weights.sum() * (y[orders] @ x)
    p = (1 + int((np.abs(drawn) >= abs(found) - 1e-9).sum())) / (1 + len(drawn))
    if len(means) >= 4:
        picked = random.integers(len(means), size=(1999, len(means)))
        repeated = (each[picked] * weights[picked]).sum(1) / weights[picked].sum(1)
    else:
        parts = [[within(*arms[random.integers(len(arms), size=len(arms))].T) for _ in range(1999)] for arms in means]
        repeated = np.average(np.array(parts), axis=0, weights=weights)
    low, high = np.percentile(repeated, [2.5, 97.5])
    return TestedEstimate(found, (float(low), float(high)), p)


def rise_lead(x: tuple[Sequence[float], Sequence[float]], y: tuple[Sequence[float], Sequence[float]]) -> float | None:
    """How many epochs earlier than another a curve has completed half of its rise.

    ``lead = t½(y) − t½(x)``; t½ is the first epoch from which the curve of 3-epoch means stays above the midpoint between
    its lowest value and its mean over the last three epochs. A positive lead is an order in time, not a cause. On short
    curves it is coarse, and a curve that rises from the start has an early t½ whatever follows.

    Args:
        x, y: epochs and values of each curve.

    Returns:
        Epochs, or None if a curve has fewer than six points or does not rise.

    >>> rise_lead((range(8), [0, 0, 1, 1, 1, 1, 1, 1]), (range(8), [0, 0, 0, 0, 0, 1, 1, 1]))
    3.0
    """
    halves = [_half_rise(*curve) for curve in (x, y)]
    return None if None in halves else float(halves[1] - halves[0])  # type: ignore[operator]


def _half_rise(epochs: Sequence[float], values: Sequence[float]) -> float | None:
    if len(values) < 6:
        return None
    smooth = [math.fsum(values[max(0, i - 2) : i + 1]) / len(values[max(0, i - 2) : i + 1]) for i in range(len(values))]
    low, end = min(smooth), math.fsum(values[-3:]) / 3
    if end <= low:
        return None
    below = [i for i, value in enumerate(smooth) if value < (low + end) / 2]
    after = below[-1] + 1 if below else 0
    return float(epochs[after]) if after < len(epochs) else None


def corrected(ps: Sequence[float]) -> list[float]:
    """p-values corrected for multiple testing by the false discovery rate (Benjamini & Hochberg 1995).

    Its condition, positive dependence, holds for comparisons with a common baseline.
    """
    if not ps:
        return []
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(ps)]
