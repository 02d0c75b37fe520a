"""What the test images add to a result: intervals that cover another draw of them, and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.studies import arms_of, epoch, factors, run

from ro_fast.errors import InputError
from ro_fast.findings.images import ImageOutcome, add_images, class_means, outcome_of_classes, outcome_of_images, with_new_images
from ro_fast.findings.outcomes import summarise_run
from ro_fast.findings.statistics import mean_ci95
from ro_fast.findings.verdict import write_finding

STUDIES, SEEDS, IMAGES = 400, 5, 200


@pytest.mark.parametrize(("seed", "image", "both"), [(0.01, 0.4, 0.0), (0.03, 0.3, 0.3), (0.0, 0.2, 0.4), (0.03, 0.0, 0.0)])
def test_another_draw_of_images_is_covered(seed: float, image: float, both: float) -> None:
    """Seeds and images drawn anew for each study; seeds alone would cover far fewer where images differ."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(STUDIES):
        values = rng.normal(0, seed, (SEEDS, 1)) + rng.normal(0, image, IMAGES) + rng.normal(0, both, (SEEDS, IMAGES))
        low, high = with_new_images(mean_ci95(values.mean(1)).ci95, list(values))
        covered += low <= 0 <= high
    assert covered / STUDIES > 0.94 - 2 * math.sqrt(0.94 * 0.06 / STUDIES)


def test_without_differences_between_images_it_is_the_interval_over_seeds() -> None:
    assert with_new_images((0.1, 0.3), [np.full(50, 0.1), np.full(50, 0.3)]) == pytest.approx((0.1, 0.3))
    assert with_new_images(None, [np.zeros(50)]) is None


def curve(robust: np.ndarray) -> list:
    return [epoch(i, val_robust_acc=float(v), test_robust_acc=float(v)) for i, v in enumerate(robust.mean(1))]


def test_images_add_up_to_the_run_and_others_are_refused() -> None:
    robust = np.random.default_rng(0).random((12, 40)) < np.linspace(0.3, 0.8, 40)
    outcome = summarise_run(curve(robust))
    found = outcome_of_images(robust, outcome)
    assert found.ro_gap.mean() == pytest.approx(outcome.ro_gap)
    assert found.last_robust_acc.mean() == pytest.approx(outcome.last_robust_acc)
    with pytest.raises(InputError, match="are not of a run with"):
        outcome_of_images(~robust, outcome)


def test_classes_and_the_worst_of_them() -> None:
    images = ImageOutcome(np.array([1.0, 1, 0.5, 1]), np.array([1.0, 0.5, 0.25, 0.25]))
    found = outcome_of_classes(images, np.array([0, 0, 2, 2]), 3)
    assert found.class_robust_acc == [0.75, None, 0.25] and found.class_ro_gap == [0.25, None, 0.5]
    assert found.worst_class_robust_acc == 0.25
    (arm,) = arms_of({"baseline": [run(k, **vars(found)) for k in range(3)]})
    assert arm.worst_class_robust_acc.mean == 0.25
    assert [(row.name, row.ro_gap.mean) for row in class_means(arm, ["cat", "dog", "fox"])] == [("fox", 0.5), ("cat", 0.25)]
    (older,) = arms_of({"baseline": [run(0, **vars(found)), run(1)]})
    assert class_means(older, []) == []


def test_an_arm_gets_wider_intervals_only_where_all_its_runs_noted_images() -> None:
    runs = {name: [run(k, ro_gap=gap) for k, gap in enumerate([0.05, 0.06, 0.07])] for name in ("baseline", "other")}
    rng = np.random.default_rng(0)
    images = {k: ImageOutcome(rng.random(50).round(), rng.random(50).round()) for k in range(3)}
    baseline, other = add_images(arms_of(runs), {"baseline": images, "other": {0: images[0]}})
    low, high = baseline.ro_gap_new_images
    assert low < baseline.ro_gap.ci95[0] < baseline.ro_gap.ci95[1] < high
    assert other.ro_gap_new_images is None
    for level, said in ((0.95, "baseline's would be"), (0.98, "baseline's 95 % interval would be")):
        sure = write_finding("these", [baseline, other], factors().rules, level=level).sentences[1]
        assert f"with other test images of the same kind too, {said} {100 * low:.1f} to {100 * high:.1f}" in sure
