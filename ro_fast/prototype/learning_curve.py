"""Would more data help? The gain expected from twice the images, estimated from smaller subsets of those available."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ro_fast.findings.decision import LearningCurve, Size
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.simultaneous import Comparison
from ro_fast.findings.statistics import Estimate, Interval, mean_ci95

FACTOR = 2  # how far to extrapolate; further is guesswork


def learning_curve(arms: Sequence[Arm], sizes: Mapping[str, int], test_size: int) -> LearningCurve | None:
    """Extrapolates the last robust accuracy to twice as many training images.

    Each seed's error is assumed to follow ``1 − accuracy = a · n^−b`` (a power law, as Hestness et al. 2017, arXiv 1712.00409,
    find for natural accuracy), b fitted by least squares of logarithms over the sizes; so the error measured at the largest n
    times ``2^−b`` is that at 2n. An error below half a test image is set to half a test image.

    The interval covers the seeds and the power law as far as the sizes show how well it holds: it spans the 95 % intervals over
    seeds with b from all sizes and with b from each two neighbouring ones.

    Args:
        arms: those of a suite.
        sizes: training images of the arms that otherwise are the same.
        test_size: test images.

    Returns:
        None with fewer than three sizes.
    """
    by_name = {arm.name: arm for arm in arms if arm.name in sizes}
    if len(by_name) < 3:
        return None
    order = sorted(by_name, key=sizes.__getitem__)
    accuracy = {name: {seed.seed: seed.last_robust_acc for seed in by_name[name].seeds} for name in order}
    seeds = list(accuracy[order[-1]])
    errors = [[max(1 - accuracy[name][seed], 0.5 / test_size) for name in order] for seed in seeds]
    images = [sizes[name] for name in order]
    spans = [(0, len(images)), *((i, i + 2) for i in range(len(images) - 1))]
    gains, ends = [], []
    for a, b in spans:
        ahead = [min(1.0, own[-1] * FACTOR ** _slope(images[a:b], own[a:b])) for own in errors]
        gains.append(mean_ci95([own[-1] - error for own, error in zip(errors, ahead, strict=True)]))
        ends.append(mean_ci95([1 - error for error in ahead]))
    return LearningCurve(
        [_size(sizes[name], mean_ci95(list(accuracy[name].values()))) for name in order],
        Size(FACTOR * images[-1], ends[0].mean, _spanned(ends)),
        Comparison(gains[0].mean, _spanned(gains)),
    )


def _size(images: int, accuracy: Estimate) -> Size:
    return Size(images, accuracy.mean, accuracy.ci95)


def _spanned(estimates: Sequence[Estimate]) -> Interval | None:
    """From the lowest to the highest end of their intervals."""
    intervals = [estimate.ci95 for estimate in estimates if estimate.ci95 is not None]
    return (min(low for low, _ in intervals), max(high for _, high in intervals)) if intervals else None


def _slope(sizes: Sequence[int], errors: Sequence[float]) -> float:
    """−b of the power law.

    >>> round(_slope([100, 200, 400], [0.8, 0.4, 0.2]), 3)
    -1.0
    """
    x, y = ([math.log(value) for value in values] for values in (sizes, errors))
    middle, height = math.fsum(x) / len(x), math.fsum(y) / len(y)
    return math.fsum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / math.fsum((a - middle) ** 2 for a in x)
