from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from ro_fast.errors import InputError
from ro_fast.findings.outcomes import summarise_arm, summarise_run
from ro_fast.findings.statistics import mean_ci95, paired_difference
from ro_fast.findings.verdict import compare_arms, write_finding

SUITE = yaml.safe_load((Path(__file__).parents[2] / "configs/suite/factors.yaml").read_text(encoding="utf-8"))
RULES = SUITE["rules"]


def epoch(number: int, val: float, test: float, natural: float = 0.9) -> dict:
    return {"epoch": number, "val_robust_acc": val, "test_robust_acc": test, "test_acc": natural}


def results(gaps: dict[str, list[float]], last: dict[str, list[float]] | None = None) -> dict:
    """A suite's results with these gaps; last robust accuracy is 0.9 minus the gap unless given."""
    arms = []
    for arm in SUITE["arms"]:
        if arm["name"] in gaps:
            lasts = (last or {}).get(arm["name"], [0.9 - gap for gap in gaps[arm["name"]]])
            seeds = [
                {"seed": k, "ro_gap": gap, "last_robust_acc": robust, "last_natural_acc": 0.9}
                for k, (gap, robust) in enumerate(zip(gaps[arm["name"]], lasts, strict=False))
            ]
            arms.append({**{key: arm[key] for key in arm if key != "set"}, "seeds": seeds, **summarise_arm(seeds)})
    return {"data": "digits_noisy", "arms": arms}


BASELINE = [0.140, 0.152, 0.164]
REDRAWN_LABELS = {  # what the first probe of digits_noisy looks like
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


def effects(finding: dict) -> dict[str, str]:
    return {arm["name"]: arm["effect"] for arm in finding["arms"]}


def test_interval_is_students():
    values = [0.12, 0.15, 0.11, 0.19]
    lo, hi = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean_ci95(values) == {"mean": pytest.approx(0.1425), "ci95": [pytest.approx(lo), pytest.approx(hi)]}
    assert mean_ci95([0.5, 0.5])["ci95"] == [0.5, 0.5]


def test_one_value_has_no_interval():
    assert mean_ci95([0.3]) == {"mean": 0.3, "ci95": None}
    assert paired_difference([0.3], [0.1]) == {"difference": pytest.approx(0.2), "ci95": None}


def test_pairing_removes_what_seeds_share():
    a, b = [0.10, 0.50, 0.90], [0.05, 0.46, 0.84]
    paired = paired_difference(a, b)
    lo, hi = stats.ttest_rel(a, b).confidence_interval()
    assert paired["ci95"] == [pytest.approx(lo), pytest.approx(hi)]
    assert paired["ci95"][0] > 0  # unpaired, it would be far from it


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_no_number_is_refused(values):
    with pytest.raises(InputError, match="mean_ci95 needs"):
        mean_ci95(values)


def test_unequal_seeds_are_refused():
    with pytest.raises(InputError, match="2 and 1 values"):
        paired_difference([0.1, 0.2], [0.1])


def test_run_is_chosen_on_validation_and_earliest_wins():
    val = [0.5, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6]
    test = [0.5, 0.7, 0.6, 0.9, 0.5, 0.4, 0.3]
    run = summarise_run([epoch(k, v, t, natural=0.8 + 0.01 * k) for k, (v, t) in enumerate(zip(val, test, strict=True))])
    assert (run["best_epoch"], run["best_robust_acc"]) == (1, 0.7)
    assert (run["best_on_test_epoch"], run["best_on_test_robust_acc"]) == (3, 0.9)
    assert run["last_robust_acc"] == pytest.approx(np.mean([0.6, 0.9, 0.5, 0.4, 0.3]))
    assert run["last_natural_acc"] == pytest.approx(0.84)
    assert run["ro_gap"] == pytest.approx(0.7 - 0.54)


def test_short_run_averages_what_it_has():
    run = summarise_run([epoch(0, 0.5, 0.6), epoch(1, 0.4, 0.4)])
    assert run["last_robust_acc"] == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [math.nan, None])
def test_run_with_a_hole_is_refused(bad):
    with pytest.raises(InputError, match=r"epoch 1 .* val_robust_acc"):
        summarise_run([epoch(0, 0.5, 0.6), epoch(1, bad, 0.4)])
    with pytest.raises(InputError, match="no epoch"):
        summarise_run([])


def test_arms_are_compared_on_the_seeds_they_share():
    arms = results({"baseline": [0.1, 0.2, 0.3], "perturbation": [0.2, 0.3], "data_and_perturbation": [0.1]})["arms"]
    by_pair = {(c["a"], c["b"], c["metric"]): c for c in compare_arms(arms)}
    assert len(by_pair) == 5
    assert by_pair["perturbation", "baseline", "ro_gap"]["difference"] == pytest.approx(0.1)
    assert by_pair["perturbation", "baseline", "last_robust_acc"]["difference"] == pytest.approx(-0.1)
    assert by_pair["perturbation", "data_and_perturbation", "ro_gap"] == {
        "a": "perturbation",
        "b": "data_and_perturbation",
        "metric": "ro_gap",
        "difference": pytest.approx(0.1),
        "ci95": None,
        "p": None,
    }


def test_redrawn_labels_name_the_large_loss_part_and_differ_from_the_paper():
    finding = write_finding(results(REDRAWN_LABELS), RULES)
    assert effects(finding) == {
        "data_and_perturbation": "worsens",
        "perturbation": "worsens",
        "large_loss_removal": "carries",
        "random_large_removal": "no effect",
        "attack_strength": "carries",
    }
    found, sure = finding["sentences"]
    assert "what carries it is large-loss samples" in found
    assert "taking that away leaves 1.0 points (95 % interval 0.5 to 1.5)" in found
    assert re.search(r"losing 15\.2 points \(95 % interval 1\d\.\d to 1\d\.\d\) of robust", found)
    assert "a doubled budget on small-loss samples mitigates it" in found
    assert "in the paper taking away small-loss samples together with their perturbations cures" in found
    assert "here that makes it worse" in found
    assert "3 training seeds" in sure and "not new data" in sure


def test_the_papers_claim_is_recognised_where_it_holds():
    finding = write_finding(results(AS_PUBLISHED), RULES)
    assert effects(finding) == {
        "data_and_perturbation": "carries",
        "perturbation": "no effect",
        "large_loss_removal": "worsens",
        "random_removal": "no effect",
        "random_perturbation": "no effect",
    }
    assert "what carries it is small-loss samples together with their perturbations" in finding["sentences"][0]
    assert finding["sentences"][0].endswith("this agrees with the paper.")


def test_a_cure_that_the_paper_denies_is_a_difference():
    gaps = {**AS_PUBLISHED, "perturbation": [0.008, 0.010, 0.012]}
    found = write_finding(results(gaps), RULES)["sentences"][0]
    assert "does not cure robust overfitting, here that removes 93 % of it" in found


def test_a_gap_that_shrinks_by_losing_robustness_is_no_cure():
    last = {"data_and_perturbation": [0.50, 0.51, 0.52]}
    finding = write_finding(results(AS_PUBLISHED, last), RULES)
    assert effects(finding)["data_and_perturbation"] == "no gain"
    assert "no single removal is shown to cure it" in finding["sentences"][0]


def test_what_is_unclear_is_called_so():
    gaps = {**AS_PUBLISHED, "data_and_perturbation": [0.01, 0.15, 0.10]}
    found, sure = write_finding(results(gaps), RULES)["sentences"]
    assert "whether the paper's claim holds here is open" in found
    assert "still unclear is the part of small-loss samples together with" in sure


def test_a_lesser_gap_is_eased_not_carried():
    gaps = {"baseline": BASELINE, "perturbation": [gap - 0.05 for gap in BASELINE]}
    assert effects(write_finding(results(gaps), RULES)) == {"perturbation": "eases"}


def test_no_overfitting_leaves_nothing_to_explain():
    finding = write_finding(results({**AS_PUBLISHED, "baseline": [0.004, 0.005, 0.006]}), RULES)
    assert finding["overfits"] is False
    assert set(effects(finding).values()) == {"not judged"}
    assert finding["sentences"][0].startswith("No robust overfitting to explain: on digits_noisy the baseline loses 0.5 points")


def test_a_gap_whose_interval_holds_zero_is_not_settled():
    finding = write_finding(results({**AS_PUBLISHED, "baseline": [0.0, 0.01, 0.14]}), RULES)
    assert finding["overfits"] is None
    assert "not settled" in finding["sentences"][0]


def test_one_seed_refuses_a_verdict():
    finding = write_finding(results({name: gaps[:1] for name, gaps in AS_PUBLISHED.items()}), RULES)
    assert finding["overfits"] is None and set(effects(finding).values()) == {"not judged"}
    assert "one seed has no interval: run seeds=3" in finding["sentences"][1]
    assert "95 %" not in finding["sentences"][0]


def test_missing_arms_are_told():
    assert "no other arm ran" in write_finding(results({"baseline": BASELINE}), RULES)["sentences"][0]
    assert "no baseline arm" in write_finding(results({"perturbation": BASELINE}), RULES)["sentences"][0]


def test_a_rule_that_is_no_number_is_refused():
    with pytest.raises(InputError, match=r"rules.min_gap must be a number"):
        write_finding(results(AS_PUBLISHED), {**RULES, "min_gap": "much"})
