"""Claims: from numbers to verdicts, by tests with known answers; suites whose claims don't fit are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.studies import arms_of, epoch, run
from scipy import stats

from ro_fast.cli import compose
from ro_fast.config import ClaimConfig, ConditionConfig
from ro_fast.errors import InputError
from ro_fast.findings.claims import Claim, Runs, check_claims, finding_of_claims, judge
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.statistics import corrected, peak, rank_correlation, rise_lead, t_interval, trend
from ro_fast.storage.epochs import Epoch

NOISE = [-0.01, 0.0, 0.01, 0.005, -0.005]


def arm(name: str, **means: float) -> Arm:
    """Five seeds around given means; noise shared by all arms plus some of each arm's own, so paired differences still vary."""
    rng = np.random.default_rng(list(name.encode()))
    seeds = [run(s, **{m: v + NOISE[s] + 0.004 * rng.normal() for m, v in means.items()}) for s in range(5)]
    return arms_of({name: seeds})[0]


def claim_of(*conditions: dict, name: str = "n") -> ClaimConfig:
    return ClaimConfig(name, "It is so", all=[ConditionConfig(**condition) for condition in conditions])


def verdict(conditions: list[dict], arms: list[Arm], runs: Runs | None = None) -> Claim:
    claims = [claim_of(*conditions)]
    check_claims("part", claims, [arm.name for arm in arms])
    return judge({"part": claims}, arms, runs or {})["part"][0]


ARMS = [arm("baseline", ro_gap=0.15), arm("cure", ro_gap=0.01), arm("worse", ro_gap=0.3), arm("same", ro_gap=0.15)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"test": "difference", "a": "cure", "b": "baseline", "expect": "lower"}, "confirmed"),
        ({"test": "difference", "a": "worse", "b": "baseline", "expect": "lower"}, "contradicted"),
        ({"test": "difference", "a": "same", "b": "baseline", "expect": "lower"}, "not confirmed"),
        ({"test": "difference", "a": "cure", "b": "baseline", "expect": "lower", "at_least": 0.2}, "not confirmed"),
        ({"test": "level", "arm": "baseline", "expect": "above", "value": 0.02}, "confirmed"),
        ({"test": "level", "arm": "worse", "expect": "below", "value": 0.02}, "contradicted"),
        ({"test": "trend", "arms": ["cure", "baseline", "worse"], "expect": "rising"}, "confirmed"),
        ({"test": "trend", "arms": ["cure", "baseline", "worse"], "expect": "falling"}, "contradicted"),
        ({"test": "peak", "arms": ["cure", "worse", "baseline"]}, "confirmed"),
        ({"test": "peak", "arms": ["worse", "baseline", "cure"]}, "contradicted"),
    ],
    ids=str,
)
def test_verdicts(condition: dict, expected: str) -> None:
    found = verdict([{"metric": "ro_gap", **condition}], ARMS)
    assert found.verdict == expected
    if expected != "not confirmed":
        assert (found.conditions[0].estimate > 0) == (expected == "confirmed")


def test_all_conditions_must_hold_and_one_contradiction_decides() -> None:
    lower = {"test": "difference", "metric": "ro_gap", "b": "baseline", "expect": "lower"}
    assert verdict([{**lower, "a": "cure"}, {**lower, "a": "same"}], ARMS).verdict == "not confirmed"
    assert verdict([{**lower, "a": "cure"}, {**lower, "a": "worse"}], ARMS).verdict == "contradicted"


def test_one_seed_and_missing_measurements_are_refused_in_words() -> None:
    one = arms_of({a.name: a.seeds[:1] for a in ARMS})
    found = verdict([{"test": "difference", "metric": "ro_gap", "a": "cure", "b": "baseline", "expect": "lower"}], one)
    assert found.verdict == "not confirmed" and "one seed has no interval" in found.conditions[0].text
    found = verdict([{"test": "level", "metric": "feature_gap", "arm": "cure", "expect": "above", "value": 0.0}], ARMS)
    assert found.verdict == "not confirmed" and "was not measured in cure" in found.conditions[0].text
    assert "could not be tested" in finding_of_claims([found]).sentences[1]


def test_correction_is_over_the_whole_report() -> None:
    """A p-value of 0.03 alone confirms; among conditions that show nothing it does not."""
    values = np.array([0.02, 0.10, 0.05, 0.07, 0.01])
    (weak,) = arms_of({"weak": [run(s, ro_gap=v) for s, v in enumerate(values)]})
    assert 0.01 < stats.ttest_1samp(values, 0).pvalue < 0.05
    above = {"test": "level", "metric": "ro_gap", "arm": "weak", "expect": "above", "value": 0.0}
    nothing = {"test": "difference", "metric": "ro_gap", "a": "same", "b": "baseline", "expect": "lower"}
    assert verdict([above], [weak]).verdict == "confirmed"
    claims = {"a": [claim_of(above)], "b": [claim_of(*[nothing] * 12)]}
    assert judge(claims, [weak, *ARMS], {})["a"][0].verdict == "not confirmed"
    assert corrected([0.01, 0.02, 0.9]) == pytest.approx([0.03, 0.03, 0.9])


def test_correlation_needs_arms_not_seeds() -> None:
    rng = np.random.default_rng(0)
    arms = [arm(f"a{i}", feature_gap=0.02 * i, ro_gap=0.03 * i + 0.01 * rng.normal()) for i in range(8)]
    condition = {"test": "correlation", "x": "feature_gap", "y": "ro_gap", "expect": "positive"}
    assert verdict([condition], arms).verdict == "confirmed"
    assert verdict([condition], arms[:2]).conditions[0].p is None
    # Three arms with many seeds each are three points, however many circles there are.
    assert verdict([condition], arms[:3]).verdict == "not confirmed"


def test_a_correlation_between_suites_is_none_within_them() -> None:
    """Simpson's paradox: within each suite y falls with x, over all arms it rises."""
    suites = {f"s{k}": [(0.1 * k + 0.01 * i, 0.1 * k - 0.01 * i) for i in range(4)] for k in range(6)}
    arms = [arm(f"{s}{i}", feature_gap=x, ro_gap=y) for s, points in suites.items() for i, (x, y) in enumerate(points)]
    claims = {"p": [claim_of({"test": "correlation", "x": "feature_gap", "y": "ro_gap", "expect": "positive"})]}
    parts = {s: [f"{s}{i}" for i in range(4)] for s in suites}
    assert judge(claims, arms, {})["p"][0].verdict == "confirmed"
    (within,) = judge(claims, arms, {}, parts=parts)["p"][0].conditions
    assert within.verdict == "contradicted" and "gap within each of 6 suites" in within.text


def test_lead_is_measured_on_curves() -> None:
    def epochs(shift: int) -> list[Epoch]:
        fall = [0.0] * (10 + shift) + [0.1 * min(i / 4, 1) for i in range(20 - shift)]
        gap = [0.0] * 6 + [0.2 * min(i / 4, 1) for i in range(24)]
        return [epoch(e, test_robust_acc=0.8 - fall[e], feature_gap=gap[e]) for e in range(30)]

    runs = {"baseline": {seed: epochs(seed % 3) for seed in range(5)}}
    found = verdict([{"test": "lead", "x": "feature_gap", "y": "robust_fall", "expect": "leads"}], ARMS[:1], runs)
    assert found.verdict == "not confirmed" and 4 <= found.conditions[0].estimate <= 6  # described, not tested


def test_statistics_agree_with_scipy_and_with_themselves() -> None:
    values = [0.1, 0.3, 0.2, 0.25]
    assert t_interval(values, 0.1).p == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)
    levels = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(4)[:, None]
    up, down = trend(levels.tolist()), trend(levels[::-1].tolist())
    assert up.p == pytest.approx(down.p) and up.p < 0.001 and up.mean == pytest.approx(-down.mean)
    assert up.p == pytest.approx(2 * stats.page_trend_test(levels.T).pvalue)
    assert peak([[0.0, 0.1], [0.5, 0.6], [0.3, 0.2]]).best == 1
    found = rank_correlation([[[(i + 0.1 * s, i + 0.1 * s) for s in range(3)] for i in range(6)]])
    assert found.mean == pytest.approx(1) and found.p == pytest.approx(2 / 720, abs=0.003) and found.ci95[0] > 0.9
    values = np.random.default_rng(1).normal(size=(9, 2))
    rho = stats.spearmanr(values[:, 0], values[:, 1])
    one = rank_correlation([[[tuple(value)] for value in values]])
    assert one.mean == pytest.approx(rho.statistic) and one.p == pytest.approx(rho.pvalue, abs=0.03)
    assert rise_lead((range(3), [0, 1, 2]), (range(3), [0, 1, 2])) is None


LEVEL = {"test": "level", "metric": "ro_gap", "arm": "baseline", "value": 0, "expect": "above"}


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([], "name, claim and all"),
        ([{"test": "guess"}], "test 'guess' is unknown; available: difference"),
        ([{"test": "level", "metric": "ro_gap", "arm": "baseline"}], "test level needs value"),
        ([{**LEVEL, "metric": "gap"}], "metric 'gap' is unknown"),
        ([{**LEVEL, "arm": "base"}], "no arm 'base'; it has: baseline"),
        ([{**LEVEL, "expect": "up"}], "expect 'up' is unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_claims_that_do_not_fit_are_told(conditions: list[dict], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_claims("part", [claim_of(*conditions)], ["baseline"])


def test_every_suite_that_is_shipped_has_claims_that_fit() -> None:
    for path in (Path(__file__).parents[2] / "configs/suite").glob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# ") and "?" in first, f"{path} names its question in its first line"
        suite = compose("ablate", [f"suite={path.stem}"]).suite
        for part in suite.parts.values() or [suite]:
            check_claims(part.name, part.claims, [arm.name for arm in part.arms], part.rules is not None)
            assert part.ranking or part.claims or part.rules or part.harms, path
