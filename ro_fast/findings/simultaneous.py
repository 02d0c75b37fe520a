"""Comparisons of a suite's arms, all at once: paired by seed, with variances that borrow from each other.

Three seeds say little about a variance, and arms differ much in theirs. So each arm's variance is shrunk towards a common one,
the more so the better the arms' variances agree (empirical Bayes; Smyth 2004, "Linear models and empirical Bayes methods", and
limma's squeezeVar). The intervals hold for all comparisons of a family together (Bonferroni), since the verdict is about
all of them. p-values come from the same test: p < 0.05 exactly if the 95 % interval excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ro_fast.errors import InputError

MOST_PRIOR = 2.0  # degrees of freedom the other arms may lend: with more, the noisiest of few arms is under-covered
OUTLIER = 6.0  # an arm whose variance exceeds the common one by this factor is judged by its own alone
_LEAST = 1e-12  # a variance of equal numbers, as for accuracies on few images


@dataclass(frozen=True)
class Comparison:
    """A mean over seeds with its interval and p-value, None if there is one seed and so no spread."""

    difference: float
    ci95: tuple[float, float] | None  # at 95 %, unless another level was asked for
    p: float | None = None


def simultaneous(
    families: Mapping[str, Sequence[float]], lending: Sequence[Sequence[float]] = (), level: float = 0.95
) -> dict[str, Comparison]:
    """Means of differences, with intervals that hold for the whole family at once.

    ``mean ± t(1 − (1 − level)/(2m), d₀ + d)·√(s̃²/n)`` with ``s̃² = max(s², (d₀·s₀² + d·s²)/(d₀ + d))``, d = n − 1, m comparisons,
    and d₀, s₀² estimated from the variances of the family and of ``lending``, d₀ at most :data:`MOST_PRIOR`. A variance is never
    reduced, and two seeds borrow nothing: either would cost coverage if arms differ much (tests/findings require 94 %).

    Args:
        families: name -> one difference per seed.
        lending: further differences of the same kind, used for the variance estimate.

    Raises:
        InputError: if a comparison has no value, or one is not finite.
    """
    for name, values in families.items():
        if not values or not all(map(math.isfinite, values)):
            raise InputError(f"comparison '{name}' needs finite values, got {list(values)}: a seed's run failed or was left out")
    common = _common([*families.values(), *lending])
    found = {}
    for name, values in families.items():
        if len(values) == 1:
            found[name] = Comparison(values[0], None, None)
            continue
        mean, variance, freedom = _moderated(values, *common)
        error = math.sqrt(variance / len(values))
        half = _quantile(1 - (1 - level) / (2 * len(families)), freedom) * error
        found[name] = Comparison(mean, (mean - half, mean + half), min(1.0, len(families) * _two_sided(mean / error, freedom)))
    return found


def moderated(values: Sequence[float], lending: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean, variance s̃² as in :func:`simultaneous`, and its degrees of freedom, of two values or more."""
    return _moderated(values, *_common([values, *lending]))


def _moderated(values: Sequence[float], prior: float, scale: float) -> tuple[float, float, float]:
    n, own = len(values), max(_variance(values), _LEAST)
    lent = prior if n > 2 and own <= OUTLIER * scale else 0.0
    freedom = n - 1 + lent
    return math.fsum(values) / n, max(own, (lent * scale + (n - 1) * own) / freedom), freedom


def _common(several: Sequence[Sequence[float]]) -> tuple[float, float]:
    return squeeze([(len(values) - 1, max(_variance(values), _LEAST)) for values in several if len(values) > 1])


def squeeze(spread: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Degrees of freedom d₀ and variance s₀² common to the arms' variances; (0, 0) if fewer than three arms inform them.

    Args:
        spread: the degrees of freedom and the variance of each arm.
    """
    if len(spread) < 3:
        return 0.0, 0.0
    from scipy.special import digamma, polygamma

    logs = [math.log(s2) - float(digamma(d / 2)) + math.log(d / 2) for d, s2 in spread]
    mean = math.fsum(logs) / len(logs)
    beyond = math.fsum((z - mean) ** 2 for z in logs) / (len(logs) - 1)
    beyond -= math.fsum(float(polygamma(1, d / 2)) for d, _ in spread) / len(spread)
    prior = MOST_PRIOR if beyond <= float(polygamma(1, MOST_PRIOR / 2)) else 2 * _inverse_trigamma(beyond)
    return prior, math.exp(mean + float(digamma(prior / 2)) - math.log(prior / 2))


def _inverse_trigamma(y: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return float(brentq(lambda x: float(polygamma(1, x)) - y, 1e-6, 1e6))


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _quantile(p: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(p, freedom))


def _two_sided(statistic: float, freedom: float) -> float:
    from scipy.stats import t

    return 2 * float(t.sf(abs(statistic), freedom))
