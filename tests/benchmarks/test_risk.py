"""The calibration of probabilities: asked before it came, and written as measured."""

from __future__ import annotations

import json

from helpers.studies import arms_of, run

from ro_fast.benchmarks import risk
from ro_fast.storage import records


def test_the_page_says_what_was_measured() -> None:
    measured = records.read(risk.Measured, risk.FILE, "")
    assert risk.FILE.with_suffix(".md").read_text(encoding="utf-8") == risk.page(measured)
    here = measured.kinds[0]
    assert here.kind == risk.HERE and sum(tenth.count for tenth in here.tenths) == here.forecasts
    assert here.brier < here.of_base_rate / 2
    stored = {path.parent.name: json.loads(path.read_text())["arms"] for path in risk.FILE.parent.glob("*/results.json")}
    assert here.runs == sum(len(arm["seeds"]) for arms in stored.values() for arm in arms if len(arm["seeds"]) > 2)


def test_a_run_is_not_asked_about_itself() -> None:
    """A run far from its arm's others is not foreseen, however far it is."""
    for far in (0.3, 0.6):
        gaps = {"a": [0.0, 0.001, far], "b": [0.05, 0.051, 0.052]}
        arms = arms_of({name: [run(seed, ro_gap=gap) for seed, gap in enumerate(own)] for name, own in gaps.items()})
        asked = [one for one in risk.forecasts("suite", arms) if one.run == ("a", 2)]
        assert {one.said < 0.1 for one in asked if one.limit >= 0.02} == {True}
        assert all(one.came for one in asked)


def test_the_largest_size_is_foreseen_from_the_smaller_ones() -> None:
    gaps = {name: [0.1 - 0.02 * step, 0.101 - 0.02 * step, 0.099 - 0.02 * step] for step, name in enumerate(risk.SIZES)}
    arms = arms_of({name: [run(seed, ro_gap=gap) for seed, gap in enumerate(own)] for name, own in gaps.items()})
    said = {one.limit: one.said for one in risk.forecasts("suite", arms) if one.kind == risk.THERE and one.run[1] == 0}
    assert said[0.03] > 0.99 and said[0.05] < 0.01  # 0.04 follows
