"""Claims: what is confirmed, not confirmed or contradicted, on numbers whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats

from ro_fast.claims import check_claims, finding_of_claims, judge
from ro_fast.errors import InputError
from ro_fast.statistics import rise_lead

BASE = [0.10, 0.11, 0.12, 0.10]


def arm(name: str, gaps: list[float], **more: list[float]) -> dict[str, Any]:
    seeds = [{"seed": i, "ro_gap": gap, **{key: values[i] for key, values in more.items()}} for i, gap in enumerate(gaps)]
    return {"name": name, "seeds": seeds}


def verdict(condition: dict[str, Any], arms: list[dict[str, Any]], curves: dict | None = None) -> tuple[str, dict[str, Any]]:
    claim = {"name": "it", "claim": "It holds", "number": 3, "all": [{"metric": "ro_gap", **condition}]}
    check_claims("suite", [claim], [a["name"] for a in arms])
    (judged,) = judge({"suite": [claim]}, arms, curves or {})["suite"]
    return judged["verdict"], judged["conditions"][0]


def test_difference_is_judged_by_side_and_size() -> None:
    arms = [arm("baseline", BASE), arm("cure", [0.01, 0.02, 0.02, 0.00]), arm("same", [0.11, 0.10, 0.11, 0.12])]
    lower = {"test": "difference", "b": "baseline", "expect": "lower"}
    outcome, condition = verdict({**lower, "a": "cure"}, arms)
    assert outcome == "confirmed" and condition["estimate"] == pytest.approx(0.095)
    assert condition["p"] == pytest.approx(scipy.stats.ttest_rel([0.01, 0.02, 0.02, 0.00], BASE).pvalue)
    assert condition["ci95"][0] < 0.095 < condition["ci95"][1]
    assert verdict({**lower, "a": "cure", "at_least": 0.2}, arms)[0] == "not confirmed"
    assert verdict({**lower, "a": "cure", "expect": "higher"}, arms)[0] == "contradicted"
    assert verdict({**lower, "a": "same"}, arms)[0] == "not confirmed"


def test_level() -> None:
    arms = [arm("baseline", BASE)]
    level = {"test": "level", "arm": "baseline"}
    assert verdict({**level, "expect": "above", "value": 0.05}, arms)[0] == "confirmed"
    assert verdict({**level, "expect": "below", "value": 0.05}, arms)[0] == "contradicted"
    assert verdict({**level, "expect": "above", "value": 0.11}, arms)[0] == "not confirmed"


def test_trend_and_peak() -> None:
    rising = [
        arm(f"a{i}", [0.01 * i + 0.001 * s for s in range(3)], last_robust_acc=[q] * 3) for i, q in enumerate((0.5, 0.7, 0.6))
    ]
    levels = {"arms": ["a0", "a1", "a2"]}
    assert verdict({"test": "trend", "expect": "rising", **levels}, rising)[0] == "confirmed"
    assert verdict({"test": "trend", "expect": "falling", **levels}, rising)[0] == "contradicted"
    assert verdict({"test": "peak", **levels, "metric": "last_robust_acc"}, rising)[0] == "confirmed"
    assert verdict({"test": "peak", **levels}, rising)[0] == "contradicted"  # the gap is largest at the end


def test_correlation_counts_arms_not_points() -> None:
    arms = [arm(f"a{i}", [0.01 * i, 0.01 * i + 0.001], feature_gap=[0.02 * i, 0.02 * i + 0.001]) for i in range(8)]
    outcome, condition = verdict({"test": "correlation", "x": "feature_gap", "y": "ro_gap", "expect": "positive"}, arms)
    assert outcome == "confirmed" and condition["estimate"] > 0.95 and condition["ci95"][0] > 0.8
    outcome, condition = verdict({"test": "correlation", "x": "feature_gap", "y": "ro_gap", "expect": "positive"}, arms[:3])
    assert condition["p"] == pytest.approx(scipy.stats.spearmanr([0, 1, 2], [0, 1, 2]).pvalue)


def test_lead_by_half_rise() -> None:
    early, late = [0.0] * 3 + [1.0] * 9, [0.0] * 8 + [1.0] * 4
    assert rise_lead((range(12), early), (range(12), late)) == 5
    assert rise_lead((range(12), late), (range(12), early)) == -5
    assert rise_lead((range(12), early), (range(12), [1.0] * 12)) is None  # no rise
    assert rise_lead((range(4), early[:4]), (range(4), late[:4])) is None
    lines = [{"epoch": e, "feature_gap": early[e], "test_robust_acc": 0.9 - 0.2 * late[e]} for e in range(12)]
    condition = {"test": "lead", "x": "feature_gap", "y": "robust_fall", "expect": "leads"}
    outcome, found = verdict(condition, [arm("baseline", BASE)], {"baseline": dict.fromkeys(range(4), lines)})
    assert outcome == "confirmed" and found["estimate"] == 5  # four equal runs: no spread, and not 0


def test_correction_covers_the_whole_report() -> None:
    arms = [arm("baseline", BASE), arm("maybe", [0.085, 0.105, 0.105, 0.095])]
    condition = {"test": "difference", "metric": "ro_gap", "a": "maybe", "b": "baseline", "expect": "lower"}
    null = {"test": "level", "metric": "ro_gap", "arm": "baseline", "expect": "above", "value": 0.108}
    claims = [{"name": "c", "claim": "C", "all": [condition]}]
    alone = judge({"x": claims}, arms, {})["x"][0]["conditions"][0]
    among = judge({"x": claims, "y": [{"name": "n", "claim": "N", "all": [null] * 9}]}, arms, {})["x"][0]["conditions"][0]
    assert alone["p"] == alone["p_corrected"] == among["p"] < 0.05 <= among["p_corrected"]
    assert (alone["verdict"], among["verdict"]) == ("confirmed", "not confirmed")


def test_one_seed_is_refused_in_words_and_no_measurement_too() -> None:
    arms = [arm("baseline", [0.1]), arm("cure", [0.0])]
    claim = {
        "name": "it",
        "claim": "It holds",
        "all": [{"test": "difference", "metric": "ro_gap", "a": "cure", "b": "baseline", "expect": "lower"}],
    }
    unmeasured = {"name": "no", "claim": "No", "all": [{**claim["all"][0], "metric": "feature_gap"}]}
    judged = judge({"s": [claim, unmeasured]}, arms, {})["s"]
    assert [c["verdict"] for c in judged] == ["not confirmed"] * 2
    assert "one seed has no interval, run seeds=3" in judged[0]["why"] and "was not measured" in judged[1]["why"]
    sentences = finding_of_claims(judged)["sentences"]
    assert sentences[0] == "It holds: not confirmed; No: not confirmed." and "2 conditions could not be tested" in sentences[1]


def test_a_claim_needs_all_its_conditions() -> None:
    arms = [arm("baseline", BASE), arm("cure", [0.01, 0.02, 0.02, 0.00])]
    good = {"test": "difference", "metric": "ro_gap", "a": "cure", "b": "baseline", "expect": "lower"}
    claims = [
        {"name": n, "claim": n, "all": [good, other]}
        for n, other in (("bad", {**good, "expect": "higher"}), ("open", {**good, "at_least": 1}))
    ]
    assert [c["verdict"] for c in judge({"s": claims}, arms, {})["s"]] == ["contradicted", "not confirmed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": "x"}, "the suite has no arm 'x'; it has: baseline, cure"),
        ({"metric": "loss"}, "metric 'loss' is unknown; there are: ro_gap"),
        ({"test": "t"}, "test 't' is unknown; there are: difference"),
        ({"expect": "less"}, "expect 'less' is unknown; there are: higher, lower"),
        ({"test": "level"}, "test level needs arm, value"),
    ],
)
def test_claims_that_can_not_be_judged(change: dict, words: str) -> None:
    condition = {"test": "difference", "metric": "ro_gap", "a": "cure", "b": "baseline", "expect": "lower", **change}
    with pytest.raises(InputError, match=f"suite 's', claim 'c': {words}"):
        check_claims("s", [{"name": "c", "claim": "C", "all": [condition]}], ["baseline", "cure"])
