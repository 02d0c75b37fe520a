"""The prototype: a plan within its budget, a decision by its rules, one page in two languages from the same numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("hydra")
pytest.importorskip("sklearn")
pytest.importorskip("jinja2")
import yaml
from helpers.browser import fits
from helpers.pages import english, outside
from helpers.studies import arms_of, run

from ro_fast.check.finding import KINDS
from ro_fast.cli import compose
from ro_fast.config import ArmConfig, CostConfig, DecisionConfig
from ro_fast.data.check_file import Observation
from ro_fast.errors import InputError
from ro_fast.findings.decision import (
    EARLY,
    EXTRAPOLATED,
    MORE,
    Action,
    Alarms,
    LearningCurve,
    Size,
    assess_risk,
    beyond_best,
    early_stopping,
    lead,
    order_actions,
)
from ro_fast.findings.overfitting import IN_LOSS, NONE, ONE_SEED, OVERFITS, RISING, UNSETTLED, Overfitting
from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HARMS, HELPS, OPEN, Ranked
from ro_fast.findings.simultaneous import Comparison
from ro_fast.findings.statistics import Estimate
from ro_fast.prototype import prototype
from ro_fast.prototype.costs import ATTAINED, costs
from ro_fast.prototype.enough import enough, least_gain
from ro_fast.prototype.learning_curve import learning_curve
from ro_fast.prototype.page import rebuild_page
from ro_fast.prototype.plan import Plan, Sizes, largest_that_fits, seconds_of, seed_seconds, sizes_for
from ro_fast.prototype.result import Prototype, read_prototype
from ro_fast.prototype.speed import Speed

TEXTS = Path(__file__).parents[2] / "ro_fast/prototype/texts"
RULES = DecisionConfig(min_gap=0.02, min_gain=0.01)
TINY = ["data.train_size=200", "data.test_size=100", "model.width=4", "attack.steps=1", "trainer.epochs=8", "min_steps=0"]


def config(out: Path, *changes: str) -> Any:
    return compose("prototype", [*TINY, "seeds=2", "jobs=1", "threads=1", f"out={out}", f"prefixes={out}/prefixes", *changes])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prototype]:
    out = tmp_path_factory.mktemp("試作 1")
    first = prototype(config(out, "seeds=1", "budget=8min"))
    states = {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    more = prototype(config(out))
    assert first.plan.seeds == 1 and more.plan.train == first.plan.train  # more seeds and budget go on from what there is
    assert states and states.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}.items()
    return out, more


def test_two_seeds_of_every_arm_and_a_decision(made: tuple[Path, Prototype]) -> None:
    out, result = made
    assert result == read_prototype(out)
    assert result.plan.seeds == 2 and result.plan.train == result.plan.available == 200
    names = [action.action for action in result.actions]
    assert {"label_smoothing", "mixup", "ema", "exclude", "early_stopping", "more_data"} <= set(names)
    verdicts = [action.verdict for action in result.actions]
    assert verdicts == sorted(verdicts, key=(FIRST, HELPS, EXTRAPOLATED, COSTS_NATURAL, OPEN, HARMS).index)
    assert result.worth["natural"].work < 0.75  # plain training is cheaper
    assert [point.size for point in result.learning_curve.points] == [50, 100, 200]


def test_the_page_in_both_languages_has_the_same_numbers_and_trains_nothing_anew(
    made: tuple[Path, Prototype], browser: Any
) -> None:
    out, _ = made
    states = {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    pages = {}
    for language in ("ja", "en"):
        prototype(config(out, f"report.language={language}"))
        pages[language] = (out / "report.html").read_text(encoding="utf-8")
        assert f'<html lang="{language}"' in (out / "check" / "check.html").read_text(encoding="utf-8")
    pages["ja again"] = rebuild_page(out, "ja").read_text(encoding="utf-8")
    assert states == {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    # The last section reports the seconds spent.
    told = {
        language: re.sub(r"<(svg|script).*?</\1>", "", page, flags=re.DOTALL).split("<body>")[1].rsplit("<h2", 1)[0]
        for language, page in pages.items()
    }
    # Decimals are measured numbers; whole ones also occur in words.
    numbers = {language: sorted(re.findall(r"[+-]?\d+\.\d+", page)) for language, page in told.items()}
    assert numbers["ja"] == numbers["en"] and len(numbers["en"]) > 30
    assert told["ja again"] == told["ja"]
    assert "リスク" in told["ja"] and "Risk" in told["en"] and "{" not in told["ja"] + told["en"]
    assert english(pages["ja"]) == [] and outside(pages["ja"]) == []
    fits(browser, out / "report.html")


def test_another_configuration_keeps_off(made: tuple[Path, Prototype]) -> None:
    with pytest.raises(InputError, match="holds a prototype with another configuration"):
        prototype(config(made[0], "trainer.epochs=9"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("budget=10", "is not a duration"),
        ("budget=soon", "is not a duration"),
        ("budget=1s", "is too short: one seed on"),
        ("report.language=fr", "report.language = fr is unknown; available: en, ja"),
        ("data.exclude=check.json", "leave data.exclude out"),
        ("data.eps=8", "eps"),
    ],
)
def test_bad_input_is_told_before_training(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prototype(config(tmp_path, change))
    assert not list(tmp_path.rglob("*.pt"))


def test_languages_name_every_kind_of_finding_and_verdict() -> None:
    texts = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in TEXTS.glob("*.yaml")}
    assert set(texts) == {"en", "ja"}
    for text in texts.values():
        assert set(text["kind"]) == set(KINDS) and set(text["verdict"]) == {
            FIRST,
            HELPS,
            EXTRAPOLATED,
            COSTS_NATURAL,
            OPEN,
            HARMS,
        }
        assert set(text["evidence_medium"]) == {NONE, IN_LOSS, UNSETTLED, RISING, ONE_SEED}


LABELS = Observation("label_error", "serious", 10, 0.1, "labels", "look")


def judged(code: str, mean: float = 0.04, half: float = 0.01) -> Overfitting:
    ci95 = None if code == ONE_SEED else (mean - half, mean + half)
    return Overfitting(code, Comparison(mean, ci95, None), None, seeds=3, rising=0)


@pytest.mark.parametrize(
    ("code", "rang", "findings", "level"),
    [
        (OVERFITS, True, [], "high"),
        (NONE, False, [], "low"),
        (UNSETTLED, False, [], "medium"),
        (IN_LOSS, False, [], "medium"),
        (RISING, False, [], "medium"),
        (NONE, True, [], "medium"),
        (NONE, False, [LABELS], "medium"),
        (ONE_SEED, True, [], "medium"),
    ],
)
def test_risk(code: str, rang: bool, findings: list, level: str) -> None:
    alarms = Alarms(2, [None, 9 if rang else None])
    risk = assess_risk(judged(code), alarms, findings)
    assert (risk.level, risk.code) == (level, code)


def test_what_spoils_numbers_comes_first_then_the_surest_gain_for_the_least_work() -> None:
    def entry(name: str, verdict: str, low: float, work: float) -> Ranked:
        gain = Comparison(low + 0.01, (low, low + 0.02))
        cost = {"gflop": Estimate(work, None)}
        return Ranked(name, name, "baseline", gain, gain, gain, None, cost, low / work, verdict)

    ranking = [
        entry("a", FIRST, 0.04, 1.0),
        entry("b", HELPS, 0.06, 3.0),
        entry("e", COSTS_NATURAL, 0.09, 1.0),
        entry("c", OPEN, -0.01, 1.0),
        entry("d", HARMS, -0.09, 1.0),
    ]
    early = early_stopping(arms_of({"baseline": [run(0), run(1)]})[0], judged(OVERFITS).gap, 0.01)
    leak = Observation("leakage", "serious", 3, 0.1, "leaks", "remove")
    curve = LearningCurve([], Size(2, 0.5, None), Comparison(0.005, (0.004, 0.006)))  # certain, and too little to matter
    actions = order_actions(ranking, early, [LABELS, leak], curve, RULES)
    assert [action.action for action in actions] == ["repair", "a", "early_stopping", "b", "e", "more_data", "c", "d"]
    assert [action.verdict for action in actions] == [FIRST, HELPS, HELPS, HELPS, COSTS_NATURAL, OPEN, OPEN, HARMS]
    assert order_actions(ranking, early, [], None, RULES)[0].verdict == FIRST
    matters = LearningCurve([], Size(2, 0.5, None), Comparison(0.5, (0.4, 0.6)))  # the greatest gain, but nobody has tried it
    extrapolated = order_actions(ranking, early, [], matters, RULES)
    assert [action.action for action in extrapolated][:5] == ["a", "early_stopping", "b", "more_data", "e"]
    assert extrapolated[3].verdict == EXTRAPOLATED


def test_gains_are_told_against_the_best_epoch_and_against_each_other() -> None:
    best, last = (0.60, 0.62, 0.61), (0.50, 0.50, 0.52)
    ends = {"a": (0.63, 0.66, 0.64), "b": (0.59, 0.61, 0.58)}
    arms = arms_of(
        {
            "baseline": [run(s, best_robust_acc=best[s], last_robust_acc=last[s]) for s in range(3)],
            **{name: [run(s, last_robust_acc=end[s]) for s in range(3)] for name, end in ends.items()},
        },
        [ArmConfig(name=name, role="mitigation") for name in ends],
    )
    beyond = beyond_best(arms)
    assert beyond["a"].difference == pytest.approx(0.1 / 3) and beyond["b"].difference < 0 and "baseline" not in beyond
    found = lead(arms, [Action(MORE, EXTRAPOLATED), Action("a", FIRST), Action(EARLY, HELPS), Action("b", HELPS)])
    assert found is not None and (found.first, found.second) == ("a", EARLY)
    assert found.difference.difference == pytest.approx(0.1 / 3)  # keeping the best epoch ends where that epoch was
    assert lead(arms, [Action("a", FIRST), Action("b", OPEN)]) is None


def test_an_earlier_epoch_that_costs_natural_accuracy_is_not_shown_to_help() -> None:
    gap = judged(OVERFITS).gap
    found = {
        cost: early_stopping(arms_of({"baseline": [run(s, best_natural_acc=0.9 - cost) for s in (0, 1)]})[0], gap, 0.01)
        for cost in (0.005, 0.02)
    }
    assert [action.verdict for action in found.values()] == [HELPS, COSTS_NATURAL]
    assert found[0.02].natural is not None and found[0.02].natural.difference == pytest.approx(-0.02)


def test_costs_are_hours_money_and_labels(made: tuple[Path, Prototype]) -> None:
    out, plain = made
    states = {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    assert plain.costs.hours == plain.costs.here_hours > 0 and plain.costs.money(1.0, 0) is None
    told = prototype(config(out, "cost.gpu=A100", "cost.per_hour=3", "cost.per_label=0.5", "cost.currency=JPY"))
    assert states == {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    assert told.costs.hours == pytest.approx(told.costs.gflop / (312e3 * ATTAINED * 3600))
    assert told.costs.money(2.0, 10) == pytest.approx(6 * told.costs.hours + 5)
    labels = {action.action: action.labels for action in told.actions}
    assert labels["more_data"] == 200 and labels["mixup"] == labels["exclude"] == 0 and told.suspects > 10
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "A100" in page and "JPY" in page and "cost.per_hour" not in page
    assert costs(CostConfig(hours_per_gflop=2.0), gflop=3.0, here_hours=1.0).hours == 6.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["cost.gpu=H900"], "cost.gpu=H900 is unknown; known: H200, H100"),
        (["cost.gpu=T4", "cost.hours_per_gflop=1"], "give only one of them"),
        (["cost.currency=gold"], "cost.currency=gold is unknown; known: EUR"),
        (["cost.per_hour=-1"], "cost.per_hour"),
    ],
)
def test_unknown_costs_are_told_before_training(changes: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        prototype(config(tmp_path, *changes))
    assert not list(tmp_path.rglob("*.pt"))


def test_the_meeting_gets_its_sentences_and_a_slide(made: tuple[Path, Prototype]) -> None:
    out, _ = made
    for language, begins in (("ja", "手元の画像200枚"), ("en", "In short runs of plain adversarial training on 200")):
        page = re.sub(r"<svg.*?</svg>", "", rebuild_page(out, language).read_text(encoding="utf-8"), flags=re.DOTALL)
        slide = ElementTree.fromstring((out / "slide.svg").read_text(encoding="utf-8"))  # well-formed
        said = "".join(text.text or "" for text in slide.iter("{http://www.w3.org/2000/svg}text"))
        assert page.count(begins) == 2  # as a sentence, and in the paragraph
        assert begins.replace(" ", "") in said.replace(" ", "")
        lowest = max(float(text.get("y", 0)) for text in slide.iter("{http://www.w3.org/2000/svg}text"))
        assert lowest < 900


def test_a_word_that_does_not_exist_is_told(made: tuple[Path, Prototype]) -> None:
    path = made[0] / "prototype.json"
    before = path.read_text(encoding="utf-8")
    content = json.loads(before)
    content["actions"][1]["verdict"] = "perhaps"
    del content["digest"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"prototype\.json names 'perhaps', which does not exist: run the prototype again"):
        rebuild_page(made[0])
    path.write_text(before, encoding="utf-8")


def test_what_a_budget_decides() -> None:
    assert least_gain(1, 5) is None and least_gain(3, 5) > least_gain(5, 5) > least_gain(5, 1)

    def action(name: str, gain: float, half: float, verdict: str = OPEN) -> Action:
        return Action(name, verdict, name, Comparison(gain, (gain - half, gain + half)))

    plan = Plan(Sizes(100, 20, 50), Sizes(100, 20, 50), 10, 60.0)
    told = enough([action("clear", 0.05, 0.01, HELPS), action("near", 0.03, 0.04), action("none", 0.0001, 0.04)], 3, plan, 240.0)
    assert told is not None and told.actions == ["near"]  # "none" is too small for any number of seeds
    assert told.seeds == 4 and told.options == "budget=6min seeds=4"  # a seed took 80 s, not the 60 s expected
    single = enough([action("near", 0.03, 0.04), action("none", 0.0001, 0.04)], 1, plan, 240.0)
    assert single is not None and single.actions == ["near", "none"] and single.seeds == 3
    assert enough([action("clear", 0.05, 0.01, HELPS)], 3, plan, 240.0) is None


def test_a_power_law_is_extrapolated_exactly() -> None:
    sizes = {"quarter": 100, "half": 200, "whole": 400}
    error = {seed: {name: (3 + seed) * size**-0.5 for name, size in sizes.items()} for seed in (0, 1)}
    arms = arms_of({name: [run(seed, last_robust_acc=1 - error[seed][name]) for seed in (0, 1)] for name in sizes})
    found = learning_curve(arms, sizes, 1000)
    assert found is not None and found.doubled.size == 800
    assert found.doubled.mean == pytest.approx(1 - 3.5 * 800**-0.5)
    assert found.gain.difference == pytest.approx(3.5 * (400**-0.5 - 800**-0.5))
    assert learning_curve(arms[:2], sizes, 1000) is None


def test_an_extrapolation_continues_what_was_measured_and_says_how_well_the_law_holds() -> None:
    sizes = {"quarter": 100, "half": 200, "whole": 400}
    bent = {"quarter": 0.5, "half": 0.4, "whole": 0.2}  # the error falls by a fifth, then by half
    arms = arms_of({name: [run(seed, last_robust_acc=1 - bent[name] - seed / 1000) for seed in (0, 1)] for name in sizes})
    found = learning_curve(arms, sizes, 1000)
    assert found is not None and found.gain.ci95 is not None
    assert found.doubled.mean - found.points[-1].mean == pytest.approx(found.gain.difference)
    low, high = found.gain.ci95
    assert low <= 0.2 * 0.2 and high >= 0.2 * 0.5  # as between the smaller sizes, or as between the larger ones


def test_a_seed_takes_what_its_arms_take() -> None:
    speed = Speed(train=0.01, judge=0.002, jobs=2)
    arms = [ArmConfig(name="baseline"), ArmConfig(name="mixup"), ArmConfig(name="half", set={"data.train_size": 50})]
    small = seed_seconds(Sizes(100, 20, 100), 10, arms, 0.2, 5, speed)
    assert seed_seconds(Sizes(200, 40, 200), 10, arms, 0.2, 5, speed) > small
    alone = 10 * (100 * 0.01 + 120 * 0.002)
    # Two arms share a fifth; the third has half of the images, and as many to be scored on.
    shared = 1.8 * alone + 10 * (50 * 0.01 + 120 * 0.002)
    assert small == pytest.approx(1.2 * shared / 2)
    assert sizes_for(100, Sizes(1000, 100, 2000)) == Sizes(100, 20, 300)
    assert sizes_for(1000, Sizes(1000, 100, 2000)) == Sizes(1000, 100, 2000)


def test_the_largest_subset_that_fits_even_where_a_smaller_one_takes_longer() -> None:
    plans = [Plan(Sizes(size, 10, 10), Sizes(900, 10, 10), 9, seconds) for size, seconds in ((900, 60), (300, 15), (100, 25))]
    chosen = {seconds: largest_that_fits(plans, seconds) for seconds in (200, 100, 40, 20, 10)}
    assert {seconds: plan and plan.sizes.train for seconds, plan in chosen.items()} == {
        200: 900,
        100: 300,
        40: 300,
        20: 300,
        10: None,
    }


def test_lengths_of_time() -> None:
    assert seconds_of("2h") == 7200 and seconds_of("1.5min") == 90 and seconds_of("1h 1min 1s") == 3661
