"""What the test images add to a result: classes, and what another draw of test images of the same kind could change.

Seeds and images are crossed: every run of a suite is scored on the same test images. For the mean over n seeds and N images,

    variance = σ²_seed/n + σ²_image/N + σ²_(seed × image)/(nN).

The spread of the seeds' means covers the first and the last term, the spread over images of the means over seeds the second and
the last. Their sum counts the last twice, so intervals made of it are somewhat too wide rather than too narrow (Owen 2007, "The
pigeonhole bootstrap"). The second is the limit of a bootstrap over images, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ro_fast.errors import InputError
from ro_fast.findings.outcomes import Arm, Outcome, around, last
from ro_fast.findings.statistics import Estimate, Interval, mean_ci95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageOutcome:
    """One run's outcome by test image, [images]: means of 0 and 1 over the epochs behind the run's own numbers."""

    best_robust_acc: Floats
    last_robust_acc: Floats

    @property
    def ro_gap(self) -> Floats:
        """By image; its mean is the run's."""
        return self.best_robust_acc - self.last_robust_acc


def outcome_of_images(robust: NDArray[np.bool_], outcome: Outcome) -> ImageOutcome:
    """The outcome by image of a run.

    Args:
        robust: [epochs, images], correct under the run's attack after each epoch.
        outcome: of the same run, whose epochs count from 0.

    Raises:
        InputError: if the images do not add up to the run's own numbers.
    """
    rows = robust.astype(float)
    found = ImageOutcome(rows[around(outcome.best_epoch)].mean(0), rows[last()].mean(0))
    if abs(found.ro_gap.mean() - outcome.ro_gap) > 1e-6:
        raise InputError(f"test images with a gap of {found.ro_gap.mean():.4f} are not of a run with {outcome.ro_gap:.4f}")
    return found


@dataclass(frozen=True)
class ClassOutcomes:
    """One run's outcome by class; None for a class without test images."""

    class_robust_acc: list[float | None]  # in the last epochs
    class_ro_gap: list[float | None]
    worst_class_robust_acc: float  # the least of the first


def outcome_of_classes(images: ImageOutcome, y: NDArray[np.int64], num_classes: int) -> ClassOutcomes:
    """The outcome by class of a run, given the labels of its test images."""

    def means(values: Floats) -> list[float | None]:
        return [float(values[y == label].mean()) if (y == label).any() else None for label in range(num_classes)]

    robust = means(images.last_robust_acc)
    return ClassOutcomes(robust, means(images.ro_gap), min(value for value in robust if value is not None))


@dataclass(frozen=True)
class ClassMeans:
    """One class over an arm's seeds."""

    name: str
    last_robust_acc: Estimate
    ro_gap: Estimate


def class_means(arm: Arm, names: Sequence[str]) -> list[ClassMeans]:
    """The classes of an arm, the least robust first; [] unless every run noted its test images.

    Args:
        arm: the arm.
        names: of the classes by label; without them, labels are their names.
    """
    found = []
    runs = [(s.class_robust_acc, s.class_ro_gap) for s in arm.seeds if s.class_robust_acc and s.class_ro_gap]
    for label in range(len(runs[0][0]) if len(runs) == len(arm.seeds) else 0):
        robust, gap = [run[0][label] for run in runs], [run[1][label] for run in runs]
        if robust[0] is not None:
            means = (mean_ci95([value for value in values if value is not None]) for values in (robust, gap))
            found.append(ClassMeans(names[label] if names else str(label), *means))
    return sorted(found, key=lambda one: one.last_robust_acc.mean)


def with_new_images(ci95: Interval | None, seeds: Sequence[Floats], comparisons: int = 1) -> Interval | None:
    """An interval over seeds, widened by what another draw of test images could change.

    ``half² = half_seeds² + (z·s/√N)²`` with s the standard deviation over the N images of the means over seeds, and z the normal
    quantile that makes it simultaneous for as many comparisons as the interval (Bonferroni).

    Args:
        ci95: of the mean over seeds; None if there is one.
        seeds: [images] each, of a result or of a difference between two arms.
        comparisons: for how many comparisons the interval holds at once.
    """
    if ci95 is None:
        return None
    from scipy.stats import norm

    means = np.mean(seeds, axis=0)
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    half = math.hypot((ci95[1] - ci95[0]) / 2, float(norm.ppf(1 - 0.025 / comparisons)) * error)
    middle = (ci95[0] + ci95[1]) / 2
    return middle - half, middle + half


def add_images(arms: Sequence[Arm], images: Mapping[str, Mapping[int, ImageOutcome]]) -> list[Arm]:
    """The arms with intervals that also cover another draw of test images, where every run noted its images."""
    found = []
    for arm in arms:
        own = list(images.get(arm.name, {}).values())
        if len(own) == len(arm.seeds):
            arm = replace(
                arm,
                ro_gap_new_images=with_new_images(arm.ro_gap.ci95, [one.ro_gap for one in own]),
                last_robust_acc_new_images=with_new_images(arm.last_robust_acc.ci95, [one.last_robust_acc for one in own]),
            )
        found.append(arm)
    return found


def paired_images(a: Mapping[int, ImageOutcome], b: Mapping[int, ImageOutcome], metric: str) -> list[Floats]:
    """a − b by image, for each seed that both have."""
    return [getattr(a[seed], metric) - getattr(b[seed], metric) for seed in sorted(a.keys() & b.keys())]
