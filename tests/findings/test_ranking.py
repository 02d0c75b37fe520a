"""What to do first: mitigations ranked by gain and cost, and the numbers of finished runs that it needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.studies import arms_of, run
from helpers.suites import small

from ro_fast.config import ArmConfig, FinalConfig, RankingConfig
from ro_fast.errors import InputError
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.ranking import check_ranking, finding_of_ranking, rank
from ro_fast.report import build_report
from ro_fast.suite.run import ablate

RULES = RankingConfig("last_robust_acc", "gflop", 0.01, {"more": "half"})


def arm(name: str, robust: list[float], gflop: float = 1.0, natural: float = 0.9, role: str = "mitigation") -> Arm:
    seeds = [
        run(i, last_robust_acc=r, ro_gap=0.9 - r, last_natural_acc=natural, gflop=gflop, train_seconds=gflop)
        for i, r in enumerate(robust)
    ]
    return arms_of({name: seeds}, [ArmConfig(name, role=role)])[0]


ARMS = [
    arm("baseline", [0.70, 0.72, 0.71], role="baseline"),
    arm("dear", [0.80, 0.82, 0.815], gflop=4.0),  # gains most, at four times the cost
    arm("cheap", [0.75, 0.77, 0.765]),
    arm("noisy", [0.70, 0.90, 0.80]),  # gains on average, but possibly by chance
    arm("worse", [0.60, 0.62, 0.615]),
    arm("unnatural", [0.80, 0.82, 0.815], natural=0.85),
    arm("half", [0.50, 0.52, 0.51], role="control"),
    arm("more", [0.56, 0.58, 0.575]),  # below the baseline, above the arm it is compared with
]


def test_ranking_follows_its_rule() -> None:
    ranking = {entry.name: entry for entry in rank(ARMS, RULES)}
    assert list(ranking)[:3] == ["more", "cheap", "dear"] and list(ranking)[-1] == "worse"
    verdicts = {name: entry.verdict for name, entry in ranking.items()}
    assert verdicts == {
        "more": "do first", "cheap": "helps", "dear": "helps", "noisy": "no gain shown", "unnatural": "costs natural accuracy",
        "worse": "harms",
    }  # fmt: skip
    dear = ranking["dear"]
    assert dear.cost["gflop"].mean == pytest.approx(4) and "step_mb" not in dear.cost
    assert dear.gain.difference == pytest.approx(0.305 / 3)
    assert dear.score == pytest.approx(dear.gain.ci95[0] / 4)
    assert ranking["more"].against == "half" and ranking["more"].gain.difference == pytest.approx(0.185 / 3)
    sentences = finding_of_ranking(list(ranking.values()), "these data").sentences
    assert sentences[0].startswith("Do first on these data: more, which raises the last robust accuracy by 6.2 points")
    assert "3 of 6 mitigations are shown to help" in sentences[0]


def test_one_seed_recommends_nothing() -> None:
    ranking = rank([replace(entry, seeds=entry.seeds[:1]) for entry in ARMS], RULES)
    assert {entry.verdict for entry in ranking} == {"no gain shown"}
    assert finding_of_ranking(ranking, "x").sentences[0].startswith("No mitigation is shown")


def test_bad_rules_are_told() -> None:
    for changes, words in (
        ({"cost": "euros"}, r"ranking.cost 'euros' is unknown; available: gflop"),
        ({"against": {"more": "none"}}, r"ranking.against: there is no arm 'none'"),
    ):
        with pytest.raises(InputError, match=words):
            check_ranking("s", replace(RULES, **changes), [entry.name for entry in ARMS])


def test_a_suite_scores_its_runs_and_ranks_them(tmp_path: Path) -> None:
    config = small(tmp_path, teachers=str(tmp_path / "teachers"), model__width=32)
    config.suite.final = FinalConfig(steps=4, apgd_steps=3, targets=2, queries=5)
    config.suite.rules, config.suite.figures = None, ["gain_cost"]
    config.suite.ranking = RankingConfig("last_robust_acc", "gflop")
    averaged = {"method": {"name": "distillation", "averaging": "ema"}}
    config.suite.arms = [ArmConfig("baseline", {}), ArmConfig("taught", averaged, role="mitigation")]
    config.suite.arms.append(ArmConfig("mean", {"method": {"name": "baseline", "averaging": "swa"}}))
    results = ablate(config)
    baseline, taught, mean = (arm.seeds[0] for arm in results.arms)
    folder = tmp_path / "suite" / "runs" / "taught" / "seed0"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # Scoring loads what training had scored, so natural accuracies are identical; a stronger attack breaks at least as many.
    assert taught.final.last.natural == lines[-1]["test_acc"]
    assert taught.final.best.natural == lines[taught.best_epoch]["test_acc"]
    assert taught.final.last.pgd <= lines[-1]["test_robust_acc"] + 0.02
    assert 0 < taught.final.last.cascade <= taught.final.last.pgd
    # Two teachers, one of them without attack, cost as much as 4 epochs of 7 and of 3 forwards; each step queries both.
    own, asked, renewed = 4 * 7, 2 * 2, 2 * 1
    assert taught.gflop / baseline.gflop == pytest.approx((own + asked + renewed + 4 * 7 + 4 * 3) / own)
    memory = [seed.final.step_mb for seed in (baseline, mean, taught)]
    weights = sum(p.numel() * p.element_size() for p in _weights(folder)) / 2**20
    assert memory[1] - memory[0] == pytest.approx(weights, rel=0.1)  # the average
    assert memory[2] - memory[1] > 2 * weights  # two teachers, and the memory of their forwards
    assert results.ranking[0].name == "taught" and results.ranking[0].final["best"]["pgd"].mean > 0
    page = build_report(tmp_path / "suite").read_text(encoding="utf-8")
    assert "What to do first" in page and "PGD-4" in page


def _weights(folder: Path) -> list:
    from ro_fast.storage import checkpoint

    return list(checkpoint.load(folder / "last.pt")["model"].values())


def test_what_cannot_be_told_apart_is_named_as_a_tie_and_the_cheapest_goes_first() -> None:
    arms = [
        arm("baseline", [0.70, 0.71, 0.72, 0.71, 0.70], role="baseline"),
        arm("steady", [0.80, 0.811, 0.82, 0.81, 0.80], gflop=1.2),
        arm("cheaper", [0.795, 0.815, 0.815, 0.81, 0.80], gflop=1.1),
        arm("less", [0.75, 0.76, 0.77, 0.761, 0.75]),
    ]
    ranking = rank(arms, RULES)
    assert [(entry.name, entry.tied, entry.verdict) for entry in ranking] == [
        ("cheaper", True, "do first"), ("steady", True, "helps"), ("less", False, "helps"),
    ]  # fmt: skip
    assert "indistinguishable, and no cheaper: steady" in finding_of_ranking(ranking, "x").sentences[0]
