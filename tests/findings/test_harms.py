"""Which property makes it worse: arms against their controls, ordered, with intervals for all at once."""

from __future__ import annotations

import pytest
from helpers.studies import arms_of, run

from ro_fast.cli import compose
from ro_fast.errors import InputError
from ro_fast.findings.harms import EASES, OPEN, WORSENS, check_harms, finding_of_harms, rank_harms

GAPS = {
    "baseline": [0.050, 0.052, 0.051],
    "fewer": [0.070, 0.072, 0.071],
    "imbalance": [0.071, 0.071, 0.072],  # worse than the baseline, but no more than fewer images are
    "missing_mode": [0.100, 0.103, 0.101],
    "duplicates": [0.071, 0.072, 0.071],
    "shift": [0.020, 0.021, 0.023],
    "wrong_labels": [0.150, 0.155, 0.151],
}
BEST = {"wrong_labels": 0.80}


def test_each_is_compared_with_its_control_and_the_worst_comes_first() -> None:
    runs = {
        name: [run(k, ro_gap=gap, best_robust_acc=BEST.get(name, 0.9) + 0.001 * k) for k, gap in enumerate(gaps)]
        for name, gaps in GAPS.items()
    }
    harms = rank_harms(arms_of(runs, compose("ablate", ["suite=bias"]).suite.arms))
    assert [(harm.name, harm.verdict) for harm in harms[:3]] == [
        ("wrong_labels", WORSENS), ("missing_mode", WORSENS), ("fewer", WORSENS),
    ]  # fmt: skip
    assert {harm.name for harm in harms if harm.verdict == OPEN} == {"imbalance", "duplicates"}
    assert harms[-1].name == "shift" and harms[-1].verdict == EASES
    assert {harm.name: harm.against for harm in harms}["missing_mode"] == "fewer"
    first, sure = finding_of_harms(harms, "these data", 0.2).sentences
    assert "gets worse when 20 % of the training images are changed: wrong labels by" in first
    assert "The best robust accuracy itself falls with: wrong labels (-10.0 points)." in first
    assert "all properties at once" in sure


def test_an_arm_to_compare_with_that_is_missing_is_told_beforehand() -> None:
    suite = compose("ablate", ["suite=bias"]).suite
    check_harms(suite)
    suite.arms = [arm for arm in suite.arms if arm.name != "fewer"]
    with pytest.raises(InputError, match="suite 'bias': harms compares 'imbalance' with 'fewer'; available: baseline, imbalance"):
        check_harms(suite)


def test_one_seed_shows_nothing() -> None:
    runs = {name: [run(0, ro_gap=gaps[0])] for name, gaps in GAPS.items()}
    harms = rank_harms(arms_of(runs))
    assert {harm.verdict for harm in harms} == {OPEN}
    assert "no property that was tried is shown" in finding_of_harms(harms, "x", 0.2).sentences[0]
