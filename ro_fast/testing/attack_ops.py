"""Samples of the operators that move inputs: each branch, odd shapes, per-sample budgets, hostile gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import Tensor

from ro_fast.testing.sample import Draw, Sample, hostile

SHAPES = ((3, 3, 5, 7), (1, 1, 1, 1), (0, 3, 4, 4), (5, 17), (4,), (2, 3, 19, 23))


def _pgd_step(draw: Draw) -> Iterator[Sample]:
    def call(name: str, shape: tuple[int, ...], grad: Tensor | None = None, **kwargs: Any) -> Sample:
        x = draw.uniform(*shape)
        x_adv = (x + 0.1 * draw.uniform(*shape, lo=-1.0)).clamp(0, 1)
        grad = draw.normal(*shape) if grad is None else grad
        return Sample("pgd_step", name, (x_adv, x, grad), {"eps": 0.1, "alpha": 0.03, **kwargs})

    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        for shape in SHAPES:
            yield call(f"{norm}, {list(shape)}", shape, norm=norm, eps=eps)
        per_sample = {"eps": draw.uniform(6, hi=eps), "alpha": draw.uniform(6, hi=eps)}
        yield call(f"{norm}, eps [N], alpha [N]", (6, 2, 3, 3), norm=norm, **per_sample)
        yield call(f"{norm}, active", (6, 2, 3, 3), norm=norm, active=draw.mask(6))
        yield call(f"{norm}, hostile grad", (6, 2, 3, 3), hostile(draw, 6, 2, 3, 3), norm=norm)
        yield call(f"{norm}, eps 0, wide range", (2, 1, 3, 3), norm=norm, eps=0.0, lo=-2.5, hi=3.1)


def _pgd_init(draw: Draw) -> Iterator[Sample]:
    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        for shape in SHAPES:
            noise = draw.uniform(*shape, lo=-1.0) if norm == "linf" else draw.normal(*shape)
            yield Sample("pgd_init", f"{norm}, {list(shape)}", (draw.uniform(*shape), eps, noise), {"norm": norm})
        shape = (6, 2, 3, 3)
        radius = draw.uniform(6, hi=eps)
        yield Sample("pgd_init", f"{norm}, eps [N]", (draw.uniform(*shape), radius, draw.normal(*shape)), {"norm": norm})
        yield Sample(
            "pgd_init", f"{norm}, hostile noise", (draw.uniform(*shape), eps, hostile(draw, *shape)), {"norm": norm}
        )


def _pgd_mlp(draw: Draw) -> Iterator[Sample]:
    def call(name: str, n: int, *widths: int, start: bool = True, **kwargs: Any) -> Sample:
        weights = [draw.normal(o, i) / i**0.5 for i, o in pairwise(widths)]
        biases = [None if layer == 1 else 0.1 * draw.normal(width) for layer, width in enumerate(widths[1:])]
        x, noise = draw.uniform(n, widths[0]), draw.uniform(n, widths[0], lo=-1.0)
        args = (x, draw.labels(n, widths[-1]), weights, biases, noise if start else None)
        return Sample("pgd_mlp", name, args, {"eps": 0.1, "alpha": 0.04, "steps": 3, **kwargs})

    for n, *widths in ((17, 7, 3), (1, 5, 9, 4), (35, 70, 66, 13, 25, 10), (33, 2, 24, 12, 2), (3, 1, 1, 1)):
        yield call(f"{widths}, N {n}", n, *widths)
    yield call("no samples", 0, 5, 4, 3)
    yield call("from x, no steps", 3, 5, 4, 3, start=False, steps=0)
    yield call("from x, wide range", 3, 5, 4, 3, start=False, lo=-2.5, hi=3.1, eps=1.0)
    yield call("eps [N], alpha [N]", 6, 5, 4, 3, eps=draw.uniform(6, hi=0.1), alpha=draw.uniform(6, hi=0.1))
    for value in (math.nan, math.inf):
        broken = call(f"{value} in an input", 4, 5, 4, 3, start=False)
        broken.args[0][2, 1] = value
        yield broken


CASES = {"pgd_step": _pgd_step, "pgd_init": _pgd_init, "pgd_mlp": _pgd_mlp}
