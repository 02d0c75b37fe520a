"""The best mitigations are tried together: which ones, and as arms like any other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.suites import small

from ro_fast.config import ArmConfig, RankingConfig
from ro_fast.findings.ranking import HELPS, OPEN, Ranked
from ro_fast.findings.simultaneous import Comparison
from ro_fast.report import build_report
from ro_fast.suite import run as suite_run
from ro_fast.suite.combine import combinations

SETS = {
    "idbh": {"method": {"name": "baseline", "inputs": "idbh"}},
    "mixup": {"method": {"name": "baseline", "inputs": "mixup"}},
    "trades": {"method": {"name": "baseline", "objective": "trades", "beta": 6.0}},
    "mail": {"method": {"name": "mail"}},
    "reweight": {"method": {"name": "reweight", "from": "auto"}},
    "weight_decay": {"trainer.weight_decay": 0.005},
    "more_data": {"data.unlabelled": 0.5},
    "mart": {"method": {"name": "baseline", "objective": "mart"}},
}
ARMS = [ArmConfig("baseline", {}, role="baseline"), *(ArmConfig(name, of, name, "mitigation") for name, of in SETS.items())]


def ranked(name: str, score: float, verdict: str = HELPS, against: str = "baseline") -> Ranked:
    some = Comparison(score, (score, score), 0.0)
    return Ranked(name, name, against, some, some, some, None, {}, score, verdict)


def chosen(count: int, *ranking: Ranked) -> list[str]:
    return [arm.name for arm in combinations(ARMS, ranking, RankingConfig("last_robust_acc", "gflop", combine=count))]


def test_the_best_that_go_together_in_twos_and_threes() -> None:
    best = [ranked("mixup", 3), ranked("idbh", 4), ranked("trades", 2), ranked("weight_decay", 1)]
    assert chosen(2, *best) == ["idbh_and_trades"]  # mixup and idbh are two values of one option
    twos = ["idbh_and_trades", "idbh_and_weight_decay", "trades_and_weight_decay"]
    assert chosen(3, *best) == [*twos, "idbh_and_trades_and_weight_decay"]
    assert chosen(0, *best) == chosen(3) == []
    assert chosen(2, ranked("mail", 3), ranked("reweight", 2), ranked("trades", 1)) == ["mail_and_trades"]  # not two methods
    assert chosen(2, ranked("mixup", 3), ranked("mart", 2)) == []  # MART needs one class per image
    assert chosen(2, ranked("idbh", 3), ranked("trades", 2, OPEN), ranked("more_data", 1, against="half")) == []


def test_together_they_change_what_each_changes() -> None:
    rules = RankingConfig("last_robust_acc", "gflop", combine=3)
    both = combinations(ARMS, [ranked("mail", 3), ranked("idbh", 2), ranked("weight_decay", 1)], rules)
    assert both[-1].set == {"method": {"name": "mail", "inputs": "idbh"}, "trainer.weight_decay": 0.005}
    assert combinations([*ARMS, *both], [ranked("mail", 3), ranked("idbh", 2)], rules) == []


def test_they_are_trained_ranked_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if_all_helped(arms: list, ranking: list[Ranked], rules: RankingConfig) -> list[ArmConfig]:
        return combinations(arms, [dataclasses.replace(entry, verdict=HELPS, score=1.0) for entry in ranking], rules)

    monkeypatch.setattr(suite_run, "combinations", as_if_all_helped)
    rules = RankingConfig("last_robust_acc", "gflop", combine=2)
    config = small(tmp_path, suite__arms=[ARMS[0], ARMS[1], ARMS[3]], suite__rules=None, suite__ranking=rules)
    added: list = []
    results = suite_run.ablate(config, on_more=lambda *epochs: added.append(epochs))
    assert added == [(4, 0)]  # two seeds of two epochs; the first two are those of TRADES
    assert {entry.name: entry.combined for entry in results.ranking or []} == {"idbh": 0, "trades": 0, "trades_and_idbh": 1}
    assert "what each gained alone" in results.finding.sentences[1]
    run = json.loads((tmp_path / "suite" / "runs" / "trades_and_idbh" / "seed1" / "metrics.jsonl").read_text().splitlines()[-1])
    assert run["epoch"] == 3 and "trades and idbh" in build_report(tmp_path / "suite").read_text(encoding="utf-8")
    added.clear()
    again = suite_run.ablate(config, on_more=lambda *epochs: added.append(epochs))
    assert added == [(4, 4)] and again.ranking == results.ranking
