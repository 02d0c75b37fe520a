"""Would more data help? The gain expected from twice the images, estimated from smaller subsets of those available."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ro_fast.findings.decision import LearningCurve, Size
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.simultaneous import Comparison
from ro_fast.findings.statistics import Estimate, mean_ci95

FACTOR = 2  # how far to extrapolate; further is guesswork


def learning_curve(arms: Sequence[Arm], sizes: Mapping[str, int], test_size: int) -> LearningCurve | None:
    """Extrapolates the last robust accuracy to twice as many training images.

    Each seed's error is assumed to follow ``1 − accuracy = a · n^−b`` (a power law, as Hestness et al. 2017, arXiv 1712.00409,
    find for natural accuracy), fitted by least squares of logarithms over the sizes; the gain is the fitted error at n
    minus that at 2n, for the largest n. An error below half a test image is set to half a test image.

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
    ahead = [
        _ahead([sizes[name] for name in order], [accuracy[name][seed] for name in order], test_size)
        for seed in accuracy[order[0]]
    ]
    gain = mean_ci95([after - now for now, after in ahead])
    return LearningCurve(
        [_size(sizes[name], mean_ci95(list(accuracy[name].values()))) for name in order],
        _size(FACTOR * sizes[order[-1]], mean_ci95([after for _, after in ahead])),
        Comparison(gain.mean, gain.ci95),
    )


def _size(images: int, accuracy: Estimate) -> Size:
    return Size(images, accuracy.mean, accuracy.ci95)


def _ahead(sizes: Sequence[int], accuracy: Sequence[float], test_size: int) -> tuple[float, float]:
    """Fitted accuracy at the largest size, and at twice that.

    >>> now, after = _ahead([100, 200, 400], [0.2, 0.6, 0.8], 1000)
    >>> round(now, 3), round(after, 3)
    (0.8, 0.9)
    """
    x = [math.log(size) for size in sizes]
    y = [math.log(max(1 - value, 0.5 / test_size)) for value in accuracy]
    middle, height = math.fsum(x) / len(x), math.fsum(y) / len(y)
    slope = math.fsum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / math.fsum((a - middle) ** 2 for a in x)
    fitted = [height + slope * (math.log(size) - middle) for size in (sizes[-1], FACTOR * sizes[-1])]
    now, after = (1 - min(1.0, math.exp(value)) for value in fitted)
    return now, after
