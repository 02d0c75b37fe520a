"""How probable is it that robust accuracy falls by more than someone accepts, in a run with another seed or on more images?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.simultaneous import moderated

FURTHEST = 4  # how many times the images tried a trend over sizes is followed; further is guesswork


@dataclass(frozen=True)
class Fall:
    """Probabilities that a run's robust accuracy ends more than ``beyond`` below its best."""

    beyond: float  # a fraction
    here: float  # on as many images as were tried
    images: int | None = None  # all of the user's, if they are more and not too many more
    there: float | None = None  # on all of them, if the trend over sizes goes on


def probability_of_fall(arms: Sequence[Arm], beyond: float, sizes: Mapping[str, int], available: int) -> Fall | None:
    """P(G > beyond), G being the fall of robust accuracy (``ro_gap``) in a run of the baseline with another seed.

    On as many images: ``G ~ m + s̃·√(1 + 1/n)·t(ν)``, the prediction of a further value from n seeds with mean m, whose variance
    s̃² borrows from the other arms (:func:`ro_fast.findings.simultaneous.moderated`). On all images: the same for the
    least-squares line of G against log(images), over the runs of all sizes (Seber & Lee 2003, ch. 5), up to four times as many.

    Args:
        arms: those of a suite.
        beyond: the fall accepted, a fraction.
        sizes: training images of the arms that otherwise are the same, the baseline among them.
        available: the user's training images.

    Returns:
        None with a single seed, which has no spread.
    """
    gaps = {arm.name: [seed.ro_gap for seed in arm.seeds] for arm in arms}
    own = gaps.pop(BASELINE)
    if len(own) < 2:
        return None
    here = _beyond(beyond, *_another(own, list(gaps.values())))
    line = [(math.log(size), gap) for name, size in sizes.items() for gap in {**gaps, BASELINE: own}.get(name, [])]
    tried = sizes[BASELINE]
    if not tried < available <= FURTHEST * tried or len({x for x, _ in line}) < 3:
        return Fall(beyond, here)
    return Fall(beyond, here, available, _beyond(beyond, *_on_line(line, math.log(available))))


def _another(values: Sequence[float], lending: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean, standard deviation and degrees of freedom of what one more value would be."""
    mean, variance, freedom = moderated(values, lending)
    return mean, math.sqrt(variance * (1 + 1 / len(values))), freedom


def _on_line(points: Sequence[tuple[float, float]], x: float) -> tuple[float, float, float]:
    """The same for a value at x, from a line through points."""
    n = len(points)
    middle, height = (math.fsum(values) / n for values in zip(*points, strict=True))
    width = math.fsum((a - middle) ** 2 for a, _ in points)
    slope = math.fsum((a - middle) * (b - height) for a, b in points) / width
    left = math.fsum((b - height - slope * (a - middle)) ** 2 for a, b in points) / (n - 2)
    return height + slope * (x - middle), math.sqrt(left * (1 + 1 / n + (x - middle) ** 2 / width)), n - 2


def _beyond(limit: float, mean: float, deviation: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.sf((limit - mean) / max(deviation, 1e-6), freedom))
