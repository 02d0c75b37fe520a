"""Samples of the losses: each reduction, weights of 0, infinite losses, NaN, many classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ro_fast.testing.sample import Draw, Sample


def _weighted_cross_entropy(draw: Draw) -> Iterator[Sample]:
    def call(name: str, logits: Tensor, target: Tensor, weight: Tensor | None = None, **kwargs: Any) -> Sample:
        return Sample("weighted_cross_entropy", name, (logits, target, weight), kwargs)

    for reduction in ("none", "sum", "mean", "weighted_mean"):
        z, y, w = 3 * draw.normal(5, 10), draw.labels(5, 10), draw.uniform(5)
        w[2] = 0
        soft = draw.uniform(5, 10)
        yield call(f"{reduction}", z, y, reduction=reduction)
        yield call(f"{reduction}, weight", z, y, w, reduction=reduction)
        yield call(f"{reduction}, weight, smoothing", z, y, w, reduction=reduction, label_smoothing=0.1)
        yield call(f"{reduction}, soft, weight, smoothing", z, soft, w, reduction=reduction, label_smoothing=0.3)
        yield call(f"{reduction}, no weight left", z, y, w * 0, reduction=reduction)
        yield call(f"{reduction}, empty", z[:0], y[:0], w[:0], reduction=reduction)
        impossible = z.clone()
        impossible[2, y[2]] = -math.inf
        yield call(f"{reduction}, infinite loss of weight 0", impossible, y, w, reduction=reduction)
    yield call("one sample, one class", draw.normal(1, 1), draw.labels(1, 1))
    yield call("many classes", draw.normal(3, 1030), draw.labels(3, 1030), draw.uniform(3), label_smoothing=0.1)
    yield call("many soft classes", draw.normal(2, 1030), draw.uniform(2, 1030), reduction="sum")
    yield call("large", 1e4 * draw.normal(7, 3), draw.labels(7, 3), reduction="none")
    masked = draw.normal(3, 4)
    masked[:, 3] = -math.inf
    yield call("a class ruled out", masked, draw.labels(3, 3))
    broken = draw.normal(3, 4)
    broken[0, 1], broken[1, 2] = math.nan, math.inf
    yield call("NaN and inf", broken, draw.labels(3, 3), reduction="none")


CASES = {"weighted_cross_entropy": _weighted_cross_entropy}
