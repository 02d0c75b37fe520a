"""Means, differences, trends and correlations over seeds, with their 95 % intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ro_fast.errors import InputError


def mean_ci95(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval, mean ± t(0.975, n − 1) · s / √n (Student 1908).

    Args:
        values: one number a seed, at least one.

    Returns:
        ``{"mean": float, "ci95": [lo, hi]}``; ``ci95`` is None for one value, which has no spread.

    Raises:
        InputError: there is no value, or one is not finite.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("mean_ci95 needs at least one value, got none")
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"mean_ci95 needs finite values, got {numbers}: a seed's run failed or was left out")
    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n == 1:
        return {"mean": mean, "ci95": None}
    try:
        from scipy.stats import t
    except ImportError as error:
        raise InputError("95 % intervals need scipy: pip install 'ro_fast[train]'") from error
    spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def t_interval(values: Sequence[float], against: float = 0.0) -> dict[str, Any]:
    """:func:`mean_ci95` with "p", the two-sided p-value of a mean of ``against`` (Student's t), None for one value.

    Where all values are equal there is no spread to judge by: p is 1 if they equal ``against``, else 0.

    >>> found = t_interval([0.1, 0.2, 0.3])
    >>> round(found["p"], 4)
    0.0742
    """
    found = mean_ci95(values)
    if found["ci95"] is None:
        return {**found, "p": None}
    if max(values) - min(values) <= 1e-12:
        return {**found, "p": 1.0 if abs(found["mean"] - against) <= 1e-12 else 0.0}
    from scipy.stats import ttest_1samp

    return {**found, "p": float(ttest_1samp(values, against).pvalue)}


def trend(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Does a metric rise with the level, seed by seed? Page's trend test (1963) on ranks within each seed.

    Args:
        values: [levels][seeds], levels in order, at least three.

    Returns:
        ``{"mean", "ci95"}`` of last level minus first, and "p", two-sided, of no order: None for one seed.

    Raises:
        InputError: with fewer than three levels.
    """
    if len(values) < 3:
        raise InputError(f"a trend needs at least three levels, got {len(values)}")
    found = t_interval([last - first for first, last in zip(values[0], values[-1], strict=True)])
    if found["ci95"] is None:
        return found
    import numpy as np
    from scipy.stats import page_trend_test

    rising = np.array(values).T  # [seeds, levels]
    p = min(float(page_trend_test(data).pvalue) for data in (rising, rising[:, ::-1]))
    return {**found, "p": min(1.0, 2 * p)}


def peak(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Is a metric best at an inner level? By paired differences of the best level to both ends.

    Args:
        values: [levels][seeds], levels in order, at least three.

    Returns:
        "best", the level of greatest mean. If it is an inner one: "mean", "ci95" and "p" of the smaller of its differences to
        the ends (p the greater of both); else "mean" is minus the end's difference to the best inner level. The best is
        chosen on the numbers it is tested on, so p is somewhat small.
    """
    means = [math.fsum(level) / len(level) for level in values]
    best = means.index(max(means))
    minus = lambda a, b: t_interval([x - y for x, y in zip(values[a], values[b], strict=True)])  # noqa: E731
    if 0 < best < len(values) - 1:
        ends = [minus(best, 0), minus(best, -1)]
        nearer = min(ends, key=lambda end: end["mean"])
        ps = [end["p"] for end in ends]
        return {**nearer, "p": None if None in ps else max(ps), "best": best}
    inner = max(range(1, len(values) - 1), key=means.__getitem__)
    return {**minus(inner, best), "best": best}


def rank_correlation(groups: Sequence[Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Spearman's correlation over all points, for groups of points that are not independent.

    Args:
        groups: of each arm its points (x, y), one a seed; at least three arms.

    Returns:
        "mean", the correlation over all points; "ci95", percentiles of a bootstrap that draws arms, not points; "p", of no
        correlation between the arms' means, since the seeds of an arm say much the same: the share of their permutations
        that correlate as much, exact for up to seven arms. Seeded.
    """
    import numpy as np
    from scipy.stats import bootstrap, permutation_test, spearmanr

    arrays = [np.asarray(points, dtype=float) for points in groups]
    means = np.array([points.mean(axis=0) for points in arrays])

    def correlation(index: Any) -> float:
        points = np.concatenate([arrays[i] for i in index])
        if np.ptp(points[:, 0]) == 0 or np.ptp(points[:, 1]) == 0:
            return 0.0
        return float(spearmanr(points[:, 0], points[:, 1]).statistic)

    everyone = np.arange(len(arrays))
    drawn = bootstrap((everyone,), correlation, vectorized=False, n_resamples=1999, method="percentile", random_state=0)
    low, high = map(float, drawn.confidence_interval)
    flat = np.ptp(means[:, 0]) == 0 or np.ptp(means[:, 1]) == 0
    p = 1.0
    if not flat:
        p = float(
            permutation_test(
                (means[:, 0],),
                lambda x: spearmanr(x, means[:, 1]).statistic,
                permutation_type="pairings",
                n_resamples=5040,
                random_state=0,
            ).pvalue
        )
    return {"mean": correlation(everyone), "ci95": [low, high], "p": p}


def rise_lead(x: tuple[Sequence[float], Sequence[float]], y: tuple[Sequence[float], Sequence[float]]) -> float | None:
    """How many epochs earlier one curve has done half of its rise than another.

    ``lead = t½(y) − t½(x)``; t½ is the first epoch from which the curve of 3-epoch means stays above the middle between
    its lowest value and its mean over the last three epochs. A positive lead is an order in time, not a cause; on short
    curves it is coarse, and a curve that rises from the start has an early t½ whatever came of it.

    Args:
        x, y: epochs and values of each curve.

    Returns:
        Epochs, or None where a curve has fewer than six points or does not rise.

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
    """p-values corrected for their number by the false discovery rate (Benjamini & Hochberg 1995).

    Its condition, positive dependence, is what comparisons with one common baseline have.
    """
    if not ps:
        return []
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(ps)]
