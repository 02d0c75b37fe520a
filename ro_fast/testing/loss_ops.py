"""Samples of the losses: each reduction, weights of 0, infinite losses, NaN, many classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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


def _weighted_kl(draw: Draw) -> Iterator[Sample]:
    def call(name: str, logits: Tensor, target: Tensor, weight: Tensor | None = None, **kwargs: Any) -> Sample:
        return Sample("weighted_kl", name, (logits, target, weight), kwargs)

    for reduction in ("none", "sum", "mean", "weighted_mean"):
        z, target, w = 3 * draw.normal(5, 10), 3 * draw.normal(5, 10), draw.uniform(5)
        w[2] = 0
        yield call(f"{reduction}", z, target, reduction=reduction)
        yield call(f"{reduction}, weight", z, target, w, reduction=reduction)
        yield call(f"{reduction}, empty", z[:0], target[:0], w[:0], reduction=reduction)
    certain, ruled_out = 30 * draw.normal(3, 4), draw.normal(3, 4)
    ruled_out[:, 1] = -math.inf
    yield call("certain", draw.normal(3, 4), certain, reduction="none")
    yield call("a class ruled out by the target", draw.normal(3, 4), ruled_out)
    yield call("many classes, one sample", draw.normal(1, 1030), draw.normal(1, 1030))


def _of_classes(op: str, classes: int) -> Callable[[Draw], Iterator[Sample]]:
    def cases(draw: Draw) -> Iterator[Sample]:
        for reduction in ("none", "sum", "mean", "weighted_mean"):
            z, y, w = 3 * draw.normal(6, 7), draw.labels(6, 7), draw.uniform(6)
            w[2] = 0
            yield Sample(op, f"{reduction}", (z, y), {"reduction": reduction})
            yield Sample(op, f"{reduction}, weight", (z, y), {"weight": w, "reduction": reduction})
            yield Sample(op, f"{reduction}, empty", (z[:0], y[:0]), {"weight": w[:0], "reduction": reduction})
        few = draw.normal(5, classes)
        yield Sample(op, "fewest classes", (few, draw.labels(5, classes)), {"reduction": "none"})
        yield Sample(op, "many classes, one sample", (draw.normal(1, 1030), draw.labels(1, 1030)))
        sure = draw.normal(4, 5)
        sure[:, 2] += 30
        yield Sample(op, "sure", (sure, draw.labels(4, 5)), {"reduction": "none"})
        broken = draw.normal(3, 5)
        broken[1, 3] = math.nan
        yield Sample(op, "NaN", (broken, draw.labels(3, 5)), {"reduction": "none"})
        if op == "dlr_loss":
            z, y = draw.normal(6, 4), draw.labels(6, 4)
            yield Sample(op, "targeted", (z, y, (y + 1) % 4), {"weight": draw.uniform(6)})
            yield Sample(op, "targeted, none", (draw.normal(6, 9), y, (y + 5) % 9), {"reduction": "none"})

    return cases


CASES = {
    "weighted_cross_entropy": _weighted_cross_entropy,
    "weighted_kl": _weighted_kl,
    "boosted_cross_entropy": _of_classes("boosted_cross_entropy", 2),
    "margin_loss": _of_classes("margin_loss", 2),
    "dlr_loss": _of_classes("dlr_loss", 3),
}
# Differentiable in their first argument, the logits.
DIFFERENTIABLE = tuple(CASES)
