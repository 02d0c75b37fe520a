"""Whatever the numbers, a folder's finding, claims, decision page and report agree."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.studies import arms_of, factors, run

from ro_fast.findings.claims import judge
from ro_fast.findings.decision import assess_risk
from ro_fast.findings.effects import OPEN
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import NONE, OVERFITS, overfitting
from ro_fast.findings.verdict import more_seeds, write_finding

SUITE = factors()


def drawn(seed: int) -> list[Arm]:
    """A suite with gaps, spreads and numbers of seeds drawn at random, from nothing at all to severe."""
    rng = np.random.default_rng(seed)
    base, spread, seeds = rng.uniform(-0.01, 0.12), rng.uniform(0.001, 0.03), int(rng.choice([1, 2, 3, 5]))
    runs = {}
    for arm in SUITE.arms:
        gap = base * rng.choice([1.0, 0.1, 2.0]) + spread * rng.normal(size=seeds)
        runs[arm.name] = [
            run(
                k,
                ro_gap=float(gap[k]),
                ro_loss_gap=float(3 * gap[k]),
                last_robust_acc=float(0.8 - gap[k] + 0.01 * rng.normal()),
                still_rising=bool(rng.random() < 0.2),
            )
            for k in range(seeds)
        ]
    return arms_of(runs, SUITE.arms)


@pytest.mark.parametrize("seed", range(40))
def test_no_two_outputs_of_one_folder_disagree(seed: int) -> None:
    arms = drawn(seed)
    finding = write_finding("these", arms, SUITE.rules)
    claims = judge({"factors": SUITE.claims}, arms, {}, {"factors": finding})["factors"]
    found = overfitting(arms, SUITE.rules.min_gap)
    assert found is not None and found.code == finding.code
    risk = assess_risk(found, None, [])
    assert risk.code == finding.code and (risk.level == "high") == (finding.overfits is True)
    assert risk.gap.ci95 == next(arm for arm in arms if arm.name == "baseline").ro_gap.ci95
    falls, carried = claims
    assert falls.verdict == {OVERFITS: "confirmed", NONE: "contradicted"}.get(finding.code, "not confirmed")
    effects = {arm.name: arm.effect for arm in finding.arms}
    cures, stays = effects["data_and_perturbation"], effects["perturbation"]
    if cures == "carries" and stays not in ("carries", *OPEN):
        assert carried.verdict == "confirmed"
    elif cures not in ("carries", *OPEN) or stays == "carries":
        assert carried.verdict == "contradicted"
    else:
        assert carried.verdict == "not confirmed"
    assert more_seeds(arms, finding) is None or finding.code in (OVERFITS, "not settled", "one seed")


def test_the_draws_reach_every_code_that_accuracy_has() -> None:
    codes = {overfitting(drawn(seed), SUITE.rules.min_gap).code for seed in range(40)}
    assert {OVERFITS, NONE, "not settled", "one seed"} <= codes
