"""Shift between training and test images: a classifier two-sample test, and the moments of each class.

The test of Lopez-Paz & Oquab (2017, arXiv 1610.06545): a classifier learns to distinguish training from test images on one
half of them; its accuracy on the other half is one half if both parts come from one distribution. Both parts are drawn with
equal class counts, so that different class frequencies don't count here.
"""

from __future__ import annotations

import numpy as np
import torch

from ro_fast.check import classifier
from ro_fast.check.finding import MORE_TEST_IMAGES, NOTHING_TO_DO, Finding, images, some
from ro_fast.check.images import Images, Ints
from ro_fast.ops import class_moments
from ro_fast.said import Said

MOST = 5000  # images of each part
LEAST = 40  # of each part, below which nothing is reported
WARNING, SERIOUS = 0.55, 0.65  # accuracy that the interval's lower end must reach
DIRECTIONS = 10  # principal components whose class means are compared
P, FAR, VERY_FAR = 0.01, 0.5, 1.0  # over all classes together; distances in standard deviations


def shift(view: Images) -> tuple[list[Finding], dict[str, float]]:
    """Findings on shift, including the test's accuracy with its interval."""
    tested, numbers = _two_sample(view)
    return [tested, *_class_means(view)], numbers


def _two_sample(view: Images) -> tuple[Finding, dict[str, float]]:
    from scipy.stats import binomtest

    rng = np.random.default_rng([view.seed, 1])
    train, test = _matched(view, rng)
    if len(train) < LEAST:
        message = Said(
            "shift.few",
            "{images} per part are too few to compare training with test images.",
            images=images(len(train), "image"),
        )
        return Finding("shift", "info", 0, 0.0, message, MORE_TEST_IMAGES), {}
    x = np.concatenate([view.features[0][train], view.features[1][test]])
    part = np.repeat([0, 1], len(train))
    order = rng.permutation(len(x))
    learn, judge = np.array_split(order, 2)
    squared = ((x[learn[: len(learn) // 2]] - x[learn[-(len(learn) // 2) :]]) ** 2).sum(1)
    model = classifier.fit(x[learn], part[learn], float(np.median(squared)) / 4, view.seed)
    right = int((model.predict(x[judge]) == part[judge]).sum())
    result = binomtest(right, len(judge))
    low, high = result.proportion_ci(0.95)
    accuracy = right / len(judge)
    severity = "serious" if low >= SERIOUS else "warning" if low >= WARNING else "info"
    drawn = Said(
        "shift.drawn", "; {n} images of each part, as many of every class, were drawn at random", n=len(train)
    )
    told = Said(
        "shift.told",
        "a classifier tells training from test images with {accuracy} % accuracy (95 % interval {low} to {high}; 50 is chance"
        "{drawn})",
        accuracy=f"{100 * accuracy:.1f}",
        low=f"{100 * low:.1f}",
        high=f"{100 * high:.1f}",
        drawn=drawn if len(train) < min(len(view.y_train), len(view.y_test)) else "",
    )
    if low <= 0.5:
        message, advice = Said("shift.none", "There is no sign of a shift: {told}.", told=told), NOTHING_TO_DO
    else:
        message = Said("shift.found", "Test images differ from training images: {told}.", told=told)
        advice = Said(
            "shift.do",
            "Find out how the two parts were collected (camera, day, place, preparation) and draw them from one pool, unless "
            "you want to measure that difference.",
        )
        if severity == "info":
            advice = Said(
                "shift.slight_do", "The difference is slight; keep it in mind when comparing small differences in accuracy."
            )
    count = len(test) if severity != "info" else 0
    numbers = {"accuracy": accuracy, "low": float(low), "high": float(high), "held_out": len(judge)}
    return Finding("shift", severity, count, max(0.0, 2 * accuracy - 1), message, advice), numbers


def _matched(view: Images, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows of training and test images, with equally many of each class in both."""
    train, test = [], []
    for label in range(view.classes):
        ours, theirs = (rng.permutation(np.flatnonzero(y == label)) for y in (view.y_train, view.y_test))
        count = min(len(ours), len(theirs), -(-MOST // view.classes))
        train.append(ours[:count])
        test.append(theirs[:count])
    return np.concatenate(train), np.concatenate(test)


def _class_means(view: Images) -> list[Finding]:
    """Hotelling's T² between a class's training and test images, corrected for the number of classes (Bonferroni)."""
    from scipy.stats import f

    d = min(DIRECTIONS, view.features[0].shape[1])
    parts = [
        class_moments(torch.from_numpy(x[:, :d].copy()), torch.from_numpy(y), view.classes, covariance=True)
        for x, y in zip(view.features, (view.y_train, view.y_test), strict=True)
    ]
    moved: dict[int, float] = {}
    for label in range(view.classes):
        n, m = (int(part.count[label]) for part in parts)
        if min(n, m) <= d + 1:
            continue
        scatter = ((n - 1) * parts[0].covariance[label] + (m - 1) * parts[1].covariance[label]).numpy()
        difference = (parts[0].mean[label] - parts[1].mean[label]).double().numpy()
        squared = float(difference @ np.linalg.pinv(scatter / (n + m - 2), hermitian=True) @ difference)
        statistic = squared * n * m / (n + m) * (n + m - d - 1) / ((n + m - 2) * d)
        if f.sf(statistic, d, n + m - d - 1) * view.classes < P and np.sqrt(squared) >= FAR:
            moved[label] = float(np.sqrt(squared))
    if not moved:
        return []
    worst = max(moved, key=lambda label: moved[label])
    severity = "serious" if moved[worst] >= VERY_FAR else "warning"
    values = {"classes": view.classes, "name": view.data.class_name(worst), "distance": f"{moved[worst]:.1f}"}
    if len(moved) == 1:
        message = Said(
            "shift.mean",
            "The mean image of class {name}, one of {classes}, differs between training and test by {distance} standard "
            "deviations.",
            **values,
        )
    else:
        message = Said(
            "shift.means",
            "The mean image differs between training and test in {n} of {classes} classes ({names}), most in class {name}, by "
            "{distance} standard deviations.",
            n=len(moved),
            names=some(view.names(moved)),
            **values,
        )
    advice = Said(
        "shift.means_do",
        "Wrong labels cause this as well as different cameras or days: resolve suspect labels first, then compare these "
        "classes in both parts.",
    )
    return [Finding("shift", severity, len(moved), len(moved) / view.classes, message, advice)]
