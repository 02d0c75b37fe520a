"""Class margins: the distance from an image to the nearest image of another class, compared with 2ε.

If two images of different classes lie within 2ε of each other, their ε-balls intersect, and no classifier is right on both
(Yang et al. 2020, arXiv 2003.02460). Distances are between whole images, from a random part of the training images to
all images of another class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ro_fast.check.finding import Example, Finding, Reason, by_share, images, percent
from ro_fast.check.images import Floats, Images, Ints
from ro_fast.check.progress import Ticker
from ro_fast.data.stored_images import in_memory
from ro_fast.said import Said

WORK = 2.5e10  # pixel differences: half a minute on one core
LEAST, MOST = 100, 5000  # images examined
BLOCK = 1 << 23  # values held as floats at a time
ROUNDING = 2e-7  # of distances in float32: 2ε is often a whole number of grey steps, and some pairs lie at exactly that distance


@dataclass(frozen=True)
class Margins:
    """Distances to the nearest training image of another class."""

    rows: Ints  # [Q] training images examined
    linf: Floats  # [Q] in [0, 1]
    l2: Floats  # [Q]
    eps: float  # radius in L∞
    eps_l2: float
    findings: list[Finding]


def customary_l2(eps: float, values: int) -> float:
    """The L2 radius matching an L∞ radius for images of this size: the fraction of ε·√D that 128/255 is for 8/255 on CIFAR.

    >>> round(customary_l2(8 / 255, 3072) * 255, 6)
    128.0
    """
    return 16 * eps * (values / 3072) ** 0.5


def margins(view: Images, eps: float, eps_l2: float) -> Margins:
    """Distances of a random part of the training images to the nearest image of another class, and a finding for each norm."""
    y, x = view.y_train, in_memory(view.data.x_train).flatten(1)
    count = int(np.clip(WORK / x.numel(), LEAST, MOST))
    rows = np.sort(np.random.default_rng([view.seed, 2]).permutation(len(y))[:count])
    if len(np.unique(y)) < 2:
        return Margins(rows[:0], np.empty(0, np.float32), np.empty(0, np.float32), eps, eps_l2, [])
    norms = {"chebyshev": ("L∞", eps), "euclidean": ("L2", eps_l2)}
    distances, findings = {}, []
    for metric, (name, radius) in norms.items():
        distance, other = _nearest_of_another_class(view, x, rows, metric)
        distances[metric] = distance
        findings.append(_finding(view, rows, distance, other, name, radius))
    return Margins(rows, distances["chebyshev"], distances["euclidean"], eps, eps_l2, findings)


def _nearest_of_another_class(view: Images, x: torch.Tensor, rows: Ints, metric: str) -> tuple[Floats, Ints]:
    from sklearn.metrics import pairwise_distances_argmin_min

    y = view.y_train
    distance, other = np.full(len(rows), np.inf, np.float32), np.zeros(len(rows), np.int64)
    queries = view.data.images(x[rows]).numpy()
    ticker = Ticker(f"margins, {metric}", len(y))
    step = max(1, BLOCK // x.shape[1])
    for start in range(0, len(y), step):
        reference = view.data.images(x[start : start + step]).numpy()
        for label in np.unique(y[rows]):
            mine, others = np.flatnonzero(y[rows] == label), np.flatnonzero(y[start : start + step] != label)
            if len(others):
                nearest, near = pairwise_distances_argmin_min(queries[mine], reference[others], metric=metric)
                closer = near < distance[mine]
                distance[mine[closer]], other[mine[closer]] = near[closer], start + others[nearest[closer]]
        ticker.tick(start + len(reference))
    return distance, other


def _finding(view: Images, rows: Ints, distance: Floats, other: Ints, norm: str, radius: float) -> Finding:
    y, name = view.y_train, view.data.class_name
    from scipy.stats import binomtest

    near = np.flatnonzero(distance <= 2 * radius + ROUNDING)
    near = near[np.argsort(distance[near], kind="stable")]
    share = len(near) / len(rows)
    if len(rows) < len(y):
        ci = binomtest(len(near), len(rows)).proportion_ci(0.95)
        looked = Said(
            "margin.sample",
            "{share} (95 % interval {low} to {high}) of {n} training images drawn at random",
            share=percent(share),
            low=f"{100 * ci.low:.1f}",
            high=f"{100 * ci.high:.1f}",
            n=len(rows),
        )
    else:
        looked = Said("margin.all", "{share} of {images}", share=percent(share), images=images(len(rows), "training image"))
    values = {
        "norm": norm,
        "radius": f"{2 * radius:.3g}",
        "median": f"{np.median(distance):.3g}",
        "times": f"{np.median(distance) / radius:.1f}",
    }
    if len(near) or len(rows) < len(y):
        message = Said(
            "margin.found",
            "{norm}: {looked} lie within 2·eps = {radius} of an image of another class; the median distance is {median}, {times} "
            "times eps.",
            looked=looked,
            **values,
        )
    else:
        message = Said(
            "margin.none",
            "{norm}: none of {images} lie within 2·eps = {radius} of an image of another class; the median distance is {median}, "
            "{times} times eps.",
            images=images(len(rows), "training image"),
            **values,
        )
    severity = by_share(share, warning=0.01, serious=0.1)
    if severity != "info":
        advice = Said(
            "margin.do",
            "No classifier can be right on both images of such a pair at this eps. If wrong labels cause the pairs, fix those "
            "first; otherwise choose a smaller eps or larger images, or merge the classes.",
        )
    elif len(near):
        advice = Said("margin.few_do", "Few enough to inspect: such pairs often come from wrong labels.")
    else:
        advice = Said("margin.sound", "Nothing to do: on these images, one classifier could be right everywhere at this eps.")

    def caption(i: int) -> str:
        labels = {"a": name(y[rows[i]]), "b": name(y[other[i]])}
        return Said("margin.pair", "labels {a} and {b}, {distance} apart", **labels, distance=f"{distance[i]:.3g}")

    examples = [Example((("train", int(rows[i])), ("train", int(other[i]))), caption(i)) for i in near.tolist()]
    reasons = {
        ("train", int(rows[i])): Reason(
            f"look at both labels; if they are right, eps is too large for this pair in {norm}",
            score=float(distance[i]),
            partner=("train", int(other[i])),
        )
        for i in near
    }
    return Finding(
        "margin",
        severity,
        len(near),
        share,
        message,
        advice,
        sorted(rows[near].tolist()),
        [],
        examples,
        reasons,
        labels=len({*rows[near].tolist(), *other[near].tolist()}),
    )
