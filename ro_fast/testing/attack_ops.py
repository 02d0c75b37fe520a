"""Samples of the operators that move images: each branch, odd shapes, budgets a sample, hostile gradients."""

from __future__ import annotations

from collections.abc import Iterator
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


CASES = {"pgd_step": _pgd_step, "pgd_init": _pgd_init}
