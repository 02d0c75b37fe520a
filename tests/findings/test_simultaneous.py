"""Intervals that hold for all arms at once: their coverage, false causes and power, by simulation with fixed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.studies import arms_of, run
from scipy.stats import t

from ro_fast.config import ArmConfig, RulesConfig
from ro_fast.errors import InputError
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.simultaneous import simultaneous, squeeze
from ro_fast.findings.verdict import LOOK_LEVEL, LOOKS, Finding, more_seeds, write_finding

BASELINE_SPREAD = 0.8  # points, of ro_gap over seeds, as observed on digits_noisy; the arms' below
SPREADS = {"seen": [3.0, 2.1, 0.4, 1.2, 2.3, 1.1], "equal": [1.0] * 6, "one wild": [0.5] * 5 + [10.0]}
SUITES = 600


def drawn(spreads: list[float], seeds: int, effects: list[float] | None = None) -> np.ndarray:
    """Paired differences to a common baseline, [suites, arms, seeds]."""
    rng = np.random.default_rng(0)
    shape = SUITES, len(spreads), seeds
    baseline = rng.normal(0, BASELINE_SPREAD, (SUITES, 1, seeds))
    arms = rng.normal(0, 1, shape) * np.array(spreads)[None, :, None]
    return arms + np.array(effects or [0.0] * len(spreads))[None, :, None] - baseline


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
@pytest.mark.parametrize("kind", SPREADS)
def test_all_arms_are_covered_at_once(kind: str, seeds: int) -> None:
    covered = 0
    for suite in drawn(SPREADS[kind], seeds):
        found = simultaneous({str(i): values.tolist() for i, values in enumerate(suite)})
        covered += all(c.ci95[0] <= 0 <= c.ci95[1] for c in found.values())
    # At least 94 %; the standard error of 600 suites is one point.
    assert covered / SUITES > 0.94 - 2 * math.sqrt(0.94 * 0.06 / SUITES)


def test_five_points_are_found_by_most_arms_with_five_seeds() -> None:
    power = {}
    for seeds in (3, 5, 8):
        found = [
            [c.ci95[1] < 0 for c in simultaneous({str(i): v.tolist() for i, v in enumerate(suite)}).values()]
            for suite in drawn(SPREADS["seen"], seeds, [-5.0] * 6)
        ]
        power[seeds] = np.mean(found, axis=0)
    assert power[3].mean() > 0.5 and power[5].mean() > 0.75 and power[8].mean() > 0.9
    assert (power[3] <= power[5] + 0.03).all() and (power[5] <= power[8] + 0.03).all()


def test_a_single_comparison_is_students() -> None:
    values = [0.1, 0.2, 0.4]
    (found,) = simultaneous({"a": values}).values()
    half = t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert found.ci95 == pytest.approx((np.mean(values) - half, np.mean(values) + half))


def test_p_is_below_a_twentieth_exactly_where_the_interval_leaves_zero_out() -> None:
    for suite in drawn(SPREADS["seen"], 3, [-4.0, -3, 0, -2, -6, -1])[:100]:
        for c in simultaneous({str(i): values.tolist() for i, values in enumerate(suite)}).values():
            assert (c.p < 0.05) == (not c.ci95[0] <= 0 <= c.ci95[1])


def test_equal_variances_lend_most_and_wild_ones_little() -> None:
    alike, unlike = squeeze([(2, 1.0)] * 8), squeeze([(2, 10.0**k) for k in range(-6, 7)])
    assert alike[0] == 2 and unlike[0] < 0.5
    assert squeeze([(2, 1.0), (2, 2.0)]) == (0, 0)


def test_one_seed_has_no_interval_and_a_hole_is_refused() -> None:
    (found,) = simultaneous({"a": [0.5]}).values()
    assert (found.difference, found.ci95, found.p) == (0.5, None, None)
    with pytest.raises(InputError, match="comparison 'a' needs finite values"):
        simultaneous({"a": [0.5, float("nan")]})


RULES = RulesConfig(min_gap=0.02, min_reduction=0.5, max_robust_loss=0.01, irrelevant=0.2)


def finding_of(gaps: dict[str, np.ndarray]) -> Finding:
    return judged(gaps, 0.95)[1]


def judged(gaps: dict[str, np.ndarray], level: float) -> tuple[list[Arm], Finding]:
    control = "by_chance" if "by_chance" in gaps else None
    about = [
        ArmConfig("removal", role="factor", factor="hard samples", control=control),
        ArmConfig("other", role="factor", control=control),
        ArmConfig("by_chance", role="control"),
    ]
    runs = {n: [run(i, ro_gap=float(g), last_robust_acc=0.9 - float(g)) for i, g in enumerate(v)] for n, v in gaps.items()}
    arms = arms_of(runs, about)
    return arms, write_finding("drawn", arms, RULES, level=level)


def test_a_control_is_never_a_cause_and_a_factor_has_to_beat_its_own() -> None:
    base = np.array([0.067, 0.066, 0.069, 0.068, 0.067])
    cured = np.array([-0.007, -0.004, -0.006, -0.005, -0.008])
    alike = finding_of({"baseline": base, "removal": cured, "by_chance": cured[::-1]})
    assert {e.name: e.effect for e in alike.arms} == {"removal": "unclear", "by_chance": "eases"}
    assert "fewer samples per step cures it, whichever are left out: hard samples or by chance" in alike.sentences[0]
    same = base + np.array([1, -1, 0, 1, -1]) / 1000
    better = finding_of({"baseline": base, "removal": cured, "by_chance": same})
    assert {e.name: e.effect for e in better.arms} == {"removal": "carries", "by_chance": "no effect"}
    alone = finding_of({"baseline": base, "removal": cured})
    assert alone.arms[0].effect == "unclear" and "no matched control ran" in alone.arms[0].text


def test_causes_are_named_in_at_most_a_twentieth_of_suites_whose_arms_are_all_the_same() -> None:
    rng = np.random.default_rng(1)
    named = 0
    for _ in range(SUITES):
        gaps = {name: rng.normal(0.067, 0.012, 3) for name in ("baseline", "removal", "by_chance", "other")}
        named += any(e.effect == "carries" for e in finding_of(gaps).arms)
    assert named / SUITES <= 0.05


def test_looking_three_times_names_no_more_causes() -> None:
    """Seeds added until each factor is settled, as ``seeds=auto`` does, where the arms differ by nothing or only in spread."""
    rng = np.random.default_rng(2)
    for spreads in ([0.012] * 4, [0.008, 0.03, 0.004, 0.012]):
        named = 0
        for _ in range(SUITES):
            names = ("baseline", "removal", "by_chance", "other")
            draws = {name: rng.normal(0.067, spread, LOOKS[-1]) for name, spread in zip(names, spreads, strict=True)}
            for seeds in LOOKS:
                arms, finding = judged({name: values[:seeds] for name, values in draws.items()}, LOOK_LEVEL)
                if more_seeds(arms, finding) is None:
                    break
            named += any(e.effect in ("carries", "worsens") for e in finding.arms)
        assert named / SUITES <= 0.05
