from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.studies import arms_of, factors, run
from helpers.studies import epoch as made
from scipy import stats

from ro_fast.errors import InputError
from ro_fast.findings.outcomes import Arm, summarise_run
from ro_fast.findings.statistics import Estimate, mean_ci95
from ro_fast.findings.verdict import Difference, Finding, compare_arms, write_finding
from ro_fast.storage.epochs import Epoch

SUITE = factors()
RULES = SUITE.rules


def epoch(number: int, val: float, test: float, natural: float = 0.9) -> Epoch:
    return made(number, val_robust_acc=val, test_robust_acc=test, test_acc=natural)


def suite(gaps: dict[str, list[float]], last: dict[str, list[float]] | None = None, **values: float) -> list[Arm]:
    """Arms with these gaps; last robust accuracy is 0.9 minus the gap unless given."""
    runs = {}
    for name in [arm.name for arm in SUITE.arms if arm.name in gaps]:
        lasts = (last or {}).get(name, [0.9 - gap for gap in gaps[name]])
        runs[name] = [run(k, ro_gap=gap, last_robust_acc=lasts[k], **values) for k, gap in enumerate(gaps[name])]
    return arms_of(runs, SUITE.arms)


def finding_of(gaps: dict[str, list[float]], last: dict[str, list[float]] | None = None) -> Finding:
    return write_finding("digits_noisy", suite(gaps, last), RULES)


BASELINE = [0.140, 0.152, 0.164]
REDRAWN_LABELS = {  # similar to the first probe of digits_noisy
    "baseline": BASELINE,
    "data_and_perturbation": [0.30, 0.31, 0.32],
    "perturbation": [0.33, 0.35, 0.35],
    "large_loss_removal": [0.008, 0.010, 0.012],
    "random_large_removal": [0.139, 0.153, 0.164],
    "attack_strength": [0.02, 0.03, 0.025],
}
AS_PUBLISHED = {
    "baseline": BASELINE,
    "data_and_perturbation": [0.008, 0.010, 0.012],
    "perturbation": [0.141, 0.151, 0.165],
    "large_loss_removal": [0.20, 0.21, 0.22],
    "random_removal": [0.141, 0.151, 0.165],
    "random_perturbation": [0.140, 0.153, 0.163],
}


def effects(finding: Finding) -> dict[str, str]:
    return {arm.name: arm.effect for arm in finding.arms}


def test_interval_is_students():
    values = [0.12, 0.15, 0.11, 0.19]
    lo, hi = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean_ci95(values) == Estimate(pytest.approx(0.1425), pytest.approx((lo, hi)))
    assert mean_ci95([0.5, 0.5]).ci95 == (0.5, 0.5)


def test_one_value_has_no_interval():
    assert mean_ci95([0.3]) == Estimate(0.3, None)


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_no_number_is_refused(values):
    with pytest.raises(InputError, match="mean_ci95 needs"):
        mean_ci95(values)


def test_run_is_chosen_on_validation_over_three_epochs_and_earliest_wins():
    val = [0.5, 0.8, 0.8, 0.8, 0.6, 0.9, 0.6]  # one epoch's peak, at 5, is not the best
    test = [0.5, 0.7, 0.6, 0.8, 0.5, 0.4, 0.3]
    found = summarise_run([epoch(k, v, t, natural=0.8 + 0.01 * k) for k, (v, t) in enumerate(zip(val, test, strict=True))])
    assert found.best_epoch == 2 and found.best_robust_acc == pytest.approx(0.7)
    assert (found.best_on_test_epoch, found.best_on_test_robust_acc) == (3, 0.8)
    assert found.last_robust_acc == pytest.approx(np.mean([0.6, 0.8, 0.5, 0.4, 0.3]))
    assert found.last_natural_acc == pytest.approx(0.84)
    assert found.ro_gap == pytest.approx(0.7 - 0.52)
    assert found.ro_loss_gap is None and found.still_rising is False


def test_a_rise_of_loss_is_measured_beside_the_fall_of_accuracy():
    losses = [2.0, 1.5, 1.2, 1.1, 1.2, 1.4, 1.6, 1.6, 1.6, 1.6, 1.6]
    lines = [made(k, val_robust_loss=loss, test_robust_loss=loss + 0.1) for k, loss in enumerate(losses)]
    assert summarise_run(lines).ro_loss_gap == pytest.approx(1.6 - (1.2 + 1.1 + 1.2) / 3)


@pytest.mark.parametrize(("best", "rising"), [(17, False), (18, True), (19, True)])
def test_a_curve_whose_best_lies_in_its_last_tenth_still_rises(best: int, rising: bool):
    lines = [epoch(k, 0.5 - 0.01 * abs(k - best), 0.5) for k in range(20)]
    assert summarise_run(lines).still_rising is rising


def test_short_run_averages_what_it_has():
    found = summarise_run([epoch(0, 0.5, 0.6), epoch(1, 0.4, 0.4)])
    assert found.last_robust_acc == pytest.approx(0.5)


def test_run_with_a_hole_is_refused():
    with pytest.raises(InputError, match=r"epoch 1 .* val_robust_acc"):
        summarise_run([epoch(0, 0.5, 0.6), epoch(1, math.nan, 0.4)])
    with pytest.raises(InputError, match="no epoch"):
        summarise_run([])


def test_arms_are_compared_on_the_seeds_they_share():
    arms = suite({"baseline": [0.1, 0.2, 0.3], "perturbation": [0.2, 0.3], "data_and_perturbation": [0.1]})
    by_pair = {(c.a, c.b, c.metric): c for c in compare_arms(arms)}
    assert len(by_pair) == 5
    assert by_pair["perturbation", "baseline", "ro_gap"].difference == pytest.approx(0.1)
    assert by_pair["perturbation", "baseline", "last_robust_acc"].difference == pytest.approx(-0.1)
    assert by_pair["perturbation", "data_and_perturbation", "ro_gap"] == Difference(
        a="perturbation", b="data_and_perturbation", metric="ro_gap", difference=pytest.approx(0.1), ci95=None, p=None
    )


def test_redrawn_labels_name_the_large_loss_part_and_differ_from_the_paper():
    finding = finding_of(REDRAWN_LABELS)
    assert effects(finding) == {
        "data_and_perturbation": "worsens",
        "perturbation": "worsens",
        "large_loss_removal": "carries",
        "random_large_removal": "no effect",
        "attack_strength": "carries",
    }
    found, sure = finding.sentences
    assert "it is driven by large-loss samples, whose removal" in found
    assert re.search(r"whose removal leaves 1\.0 points \(95 % interval -?\d\.\d to \d\.\d\)", found)
    assert re.search(r"losing 15\.2 points \(95 % interval 1\d\.\d to 1\d\.\d\) of robust", found)
    assert "a doubled budget on small-loss samples mitigates it" in found
    assert "in the paper, removing small-loss samples together with their perturbations cures" in found
    assert "but here it makes it worse" in found
    assert "3 training seeds" in sure and "not new data" in sure


def test_the_papers_claim_is_recognised_where_it_holds():
    finding = finding_of(AS_PUBLISHED)
    assert effects(finding) == {
        "data_and_perturbation": "carries",
        "perturbation": "no effect",
        "large_loss_removal": "worsens",
        "random_removal": "no effect",
        "random_perturbation": "no effect",
    }
    assert "it is driven by small-loss samples together with their perturbations" in finding.sentences[0]
    assert finding.sentences[0].endswith("this agrees with the paper.")


def test_a_cure_that_the_paper_denies_is_a_difference():
    gaps = {**AS_PUBLISHED, "perturbation": [0.008, 0.010, 0.012]}
    found = finding_of(gaps).sentences[0]
    assert "does not cure robust overfitting, but here it eliminates 93 % of the gap" in found


def test_a_gap_that_shrinks_by_losing_robustness_is_no_cure():
    last = {"data_and_perturbation": [0.50, 0.51, 0.52]}
    finding = finding_of(AS_PUBLISHED, last)
    assert effects(finding)["data_and_perturbation"] == "no gain"
    assert "no single removal is shown to cure it" in finding.sentences[0]


def test_what_is_unclear_is_called_so():
    gaps = {**AS_PUBLISHED, "data_and_perturbation": [0.01, 0.15, 0.10]}
    found, sure = finding_of(gaps).sentences
    assert "whether the paper's claim holds here is open" in found
    assert "still unclear is the role of small-loss samples together with" in sure


def test_a_lesser_gap_is_eased_not_carried():
    gaps = {"baseline": BASELINE, "perturbation": [gap - 0.05 for gap in BASELINE]}
    assert effects(finding_of(gaps)) == {"perturbation": "eases"}


def test_no_overfitting_leaves_nothing_to_explain():
    finding = finding_of({**AS_PUBLISHED, "baseline": [0.004, 0.005, 0.006]})
    assert finding.overfits is False
    assert set(effects(finding).values()) == {"not judged"}
    assert finding.sentences[0].startswith("No robust overfitting to explain: on digits_noisy the baseline loses 0.5 points")


@pytest.mark.parametrize("gaps", [[0.0, 0.01, 0.14], [0.004, 0.005, 0.036]], ids=["0 is not ruled out", "nor is the limit"])
def test_a_gap_that_may_be_nothing_or_too_much_is_not_settled(gaps: list):
    finding = finding_of({"baseline": gaps})
    assert finding.overfits is None and finding.code == "not settled"
    assert "not settled" in finding.sentences[0]


def test_curves_that_still_rise_get_no_verdict():
    baseline, *others = suite({**AS_PUBLISHED, "baseline": [0.0, 0.001, 0.0]})
    rising = [replace(seed, still_rising=seed.seed < 2) for seed in baseline.seeds]
    finding = write_finding("digits_noisy", [replace(baseline, seeds=rising), *others], RULES)
    assert finding.code == "still rising" and set(effects(finding).values()) == {"not judged"}
    assert "train longer" in finding.sentences[0] and "2 of 3 baseline runs" in finding.sentences[1]


def test_overfitting_in_loss_alone_is_said_in_those_words():
    flat = suite({**AS_PUBLISHED, "baseline": [0.004, 0.005, 0.006]})
    flat = [replace(arm, seeds=[replace(s, ro_loss_gap=0.3 + 0.01 * s.seed) for s in arm.seeds]) for arm in flat]
    finding = write_finding("digits_noisy", flat, RULES)
    assert finding.code == "overfits in loss" and finding.overfits is None
    assert "overfits robustly in loss only: robust test loss rises by 0.31 nats" in finding.sentences[0]


def test_one_seed_refuses_a_verdict():
    finding = finding_of({name: gaps[:1] for name, gaps in AS_PUBLISHED.items()})
    assert finding.overfits is None and set(effects(finding).values()) == {"not judged"}
    assert "one seed has no interval: run seeds=3" in finding.sentences[1]
    assert "95 %" not in finding.sentences[0]


def test_missing_arms_are_told():
    assert "no other arm ran" in finding_of({"baseline": BASELINE}).sentences[0]
    assert "no baseline arm" in finding_of({"perturbation": BASELINE}).sentences[0]
