"""report.html of a prototype: one page for the decision maker, in English or Japanese, with the numbers of prototype.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.findings.decision import EARLY, MORE, NATURAL, Action, Worth
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import FIRST, HELPS, OPEN
from ro_fast.findings.statistics import Interval
from ro_fast.findings.study import read_curves, read_results
from ro_fast.pages import render
from ro_fast.pages.chart import Drawing
from ro_fast.pages.words import LANGUAGES
from ro_fast.pages.words import Words as Texts
from ro_fast.prototype.charts import draw_charts, picture_of_curves
from ro_fast.prototype.result import RESULT, Prototype, read_prototype
from ro_fast.prototype.slide import draw_slide
from ro_fast.report import build_report
from ro_fast.storage import records
from ro_fast.storage.checkpoint import write_text

SLIDE = "slide.svg"


class Words(Texts):
    """The page's texts, and numbers and actions in words."""

    def __init__(self, language: str) -> None:
        super().__init__(Path(__file__).parent / "texts", language)

    def estimate(self, value: float, ci95: Interval | None, sign: bool = False) -> str:
        """Points with their interval, from fractions, for use within a sentence."""
        number, span = self.parts(value, ci95, sign)
        return str(self("estimate", value=number, interval=span) if span else self("bare", value=number))

    def parts(self, value: float, ci95: Interval | None, sign: bool = False) -> tuple[str, str]:
        """The number and its interval, "" with a single seed, which has none."""
        number = _points(value, "+" if sign else "")
        return number, "" if ci95 is None else self("interval", lo=_points(ci95[0]), hi=_points(ci95[1]))

    def time(self, hours: float) -> str:
        """A length of time, in the unit that suits it."""
        if hours < 1 / 3600:
            return str(self("time.less"))
        key, value = ("hours", hours) if hours >= 1 else ("minutes", 60 * hours) if hours >= 1 / 60 else ("seconds", 3600 * hours)
        return str(self(f"time.{key}", value=f"{value:.1f}" if value < 10 else f"{value:.0f}"))

    def percent(self, share: float) -> str:
        """A probability, without the certainty that rounding would lend it."""
        key = "percent_below" if share < 0.01 else "percent_above" if share > 0.99 else "percent"
        return str(self(key, value=f"{100 * share:.0f}"))

    def action(self, action: Action, result: Prototype) -> str:
        """What to do, in words; an arm without a text of its own is described by what it changes."""
        name, plan = action.action, result.plan
        if action.finding is not None:
            return str(self("action.repair", what=self(f"kind.{action.finding.kind}")["name"]))
        if name == MORE:
            key = "action.more_data_there" if 2 * plan.train <= plan.available else "action.more_data"
            return str(self(key, size=2 * plan.train, available=plan.available))
        return str(self(f"action.{name}")) if name in self.texts["action"] else action.factor or name


def _points(value: float, sign: str = "") -> str:
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # + 0.0: no "-0.0"


def sentences(result: Prototype, language: str) -> list[str]:
    """The risk, the finding, and what to do first."""
    words = Words(language)
    level, gap = result.risk.level, result.risk.gap
    first = next((action for action in result.actions if action.verdict == FIRST), None)
    return [
        words("risk", level=words(f"level.{level}")),
        words(f"found.{level}", gap=words.estimate(gap.mean, gap.ci95)),
        words("first_none") if first is None else words("first", what=words.action(first, result), gain=_brings(first, words)),
    ]


def _brings(action: Action, words: Words) -> str:
    if action.gain is None:
        return ""
    gain = words.estimate(action.gain.difference, action.gain.ci95)
    return str(words("first_gain", gain=gain, work=f"{action.work:.2f}"))


def write_page(result: Prototype, out: Path, language: str) -> Path:
    """Writes the suite's own report, the charts and ``report.html`` into the prototype's folder."""
    suite = out / "suite"
    build_report(suite, language)
    curves = read_curves(suite, read_results(suite))
    words = Words(language)
    names = [words.action(action, result) for action in result.actions]
    charts = draw_charts(result, curves, words, names, _best(result, words), out / "figures")
    slide = _slide(result, picture_of_curves(result, curves, words), words)
    write_text(out / SLIDE, slide)
    page = out / "report.html"
    write_text(page, _render(result, charts, slide, words))
    return page


def rebuild_page(out: Path, language: str | None = None) -> Path:
    """Rewrites the page from prototype.json and the runs beside it, in another language if one is given.

    Raises:
        InputError: if the language is not available, or prototype.json is incomplete.
    """
    if language is not None and language not in LANGUAGES:
        raise InputError(f"report.language={language} is unknown; available: {', '.join(LANGUAGES)}")
    result = read_prototype(out)
    language = language or result.language
    with records.using(out / RESULT, "run the prototype again, it resumes"):
        result = dataclasses.replace(result, language=language, sentences=sentences(result, language))
        page = write_page(result, out, language)
    records.write(out / RESULT, result)
    return page


def _render(result: Prototype, charts: Mapping[str, Drawing], slide: str, words: Words) -> str:
    plan = result.plan
    best = _best(result, words)
    return render(
        "page.html.j2",
        Path(__file__).parent,
        t=words,
        name=_name(result),
        result=result,
        plan=plan,
        sentences=result.sentences,
        evidence=_evidence(result, words),
        min_gap=f"{100 * result.rules.min_gap:g}",
        worth=[_worth(name, row, best, words) for name, row in result.worth.items()],
        actions=[_row(number, action, result, words) for number, action in enumerate(result.actions, 1)],
        still_open=_still_open(result, words),
        tied=[words.action(action, result) for action in result.actions if action.tied],
        costs=_costs(result, words),
        costs_head=[*words("costs_head"), result.costs.currency, words("costs_per", unit=_unit(result, words))],
        costs_note=_costs_note(result, words),
        missing=_missing(result, words),
        best=words("curves_best", what=best) if best else "",
        say=to_say(result, words),
        slide=slide,
        charts=charts,
        commands=_commands(result),
    )


def to_say(result: Prototype, words: Words) -> list[str]:
    """Three sentences for a meeting: what was found, what to do first, what is not known."""
    risk, plan, fall = result.risk, result.plan, ""
    if risk.fall is not None:
        fall = words("say_fall", limit=f"{100 * risk.fall.beyond:g}", percent=words.percent(risk.fall.here))
    gap = words.estimate(risk.gap.mean, risk.gap.ci95)
    found = words("say_found", images=plan.train, found=words(f"say_level.{risk.level}", gap=gap), fall=fall)
    first = next((action for action in result.actions if action.verdict == FIRST), None)
    todo = words("first_none")
    if first is not None:
        todo = words("say_first", what=words.action(first, result), gain=_brings(first, words))
    return [found, todo, words("say_unknown", images=plan.train, available=plan.available, seeds=plan.seeds)]


def _slide(result: Prototype, chart: str, words: Words) -> str:
    plan, best = result.plan, _best(result, words)
    ran = {"arms": plan.arms, "seeds": plan.seeds, "train": plan.train, "test": plan.test, "seconds": f"{plan.seconds:.0f}"}
    return draw_slide(
        title=words("title", data=_name(result)),
        risk=words("risk", level=words(f"level.{result.risk.level}")),
        level=result.risk.level,
        points=to_say(result, words),
        chart=chart,
        caption=words("slide_caption", best=words("curves_best", what=best) if best else ""),
        foot=words("slide_foot", **ran),
        html=words("html"),
    )


def _best(result: Prototype, words: Words) -> str:
    """The best mitigation in words, "" if none helps."""
    name = next((name for name in result.worth if name not in (NATURAL, BASELINE)), None)
    return words.action(Action(name, OPEN), result) if name else ""


def _name(result: Prototype) -> str:
    return Path(result.path).name if result.path else result.data


def _evidence(result: Prototype, words: Words) -> list[str]:
    risk = result.risk
    gap = words.estimate(risk.gap.mean, risk.gap.ci95)
    told = [words("evidence_gap", gap=gap, min_gap=f"{100 * result.rules.min_gap:g}")]
    if (fall := risk.fall) is not None:
        limit = f"{100 * fall.beyond:g}"
        told.append(words("evidence_fall", limit=limit, percent=words.percent(fall.here), images=result.plan.train))
        if fall.there is not None:
            told.append(words("evidence_fall_all", limit=limit, percent=words.percent(fall.there), images=fall.images))
    if risk.alarms is None:
        told.append(words("evidence_alarms_none"))
    else:
        rang = [epoch for epoch in risk.alarms.alarm_epochs if epoch is not None]
        epochs = words("list").join(map(str, rang))
        at = words("evidence_alarms_at", epochs=epochs, total=result.plan.epochs) if rang else ""
        told.append(words("evidence_alarms", rang=len(rang), seeds=risk.alarms.seeds, at=at))
    if risk.label_errors is not None:
        told.append(words("evidence_labels", count=risk.label_errors.count, share=f"{100 * risk.label_errors.share:.1f}"))
    return told


@dataclass(frozen=True)
class _Row:
    """An action as shown on the page; numbers with their interval, each "" if there is none."""

    number: int
    what: str
    verdict: str
    helps: bool
    gain: tuple[str, str]
    natural: tuple[str, str]
    work: str


def _row(number: int, action: Action, result: Prototype, words: Words) -> _Row:
    gain, natural = action.gain, action.natural
    return _Row(
        number,
        words.action(action, result),
        words("verdict")[action.verdict],
        action.verdict in (FIRST, HELPS),
        (words("before"), "") if gain is None else words.parts(gain.difference, gain.ci95, sign=True),
        ("", "") if natural is None else words.parts(natural.difference, natural.ci95, sign=True),
        "" if action.work is None else f"{action.work:.2f}",
    )


def _still_open(result: Prototype, words: Words) -> str:
    """What would decide what is open, "" if nothing would."""
    if result.enough is None:
        return ""
    what = [words.action(action, result) for action in result.actions if action.action in result.enough.actions]
    return str(words("still_open", what=words("list").join(what), seeds=result.enough.seeds, options=result.enough.options))


LEAST = 0.01  # cost, in hours or money, below which neither it nor a gain per cost is told


@dataclass(frozen=True)
class _CostRow:
    """What a training run with an action costs, each "" if nothing or unknown."""

    what: str
    hours: float
    time: str
    labels: str
    money: str
    gain_per_cost: str


def _costs(result: Prototype, words: Words) -> list[_CostRow]:
    """Of plain adversarial training, and of what is to be done first or helps."""
    plain = Action(BASELINE, OPEN, work=1.0)
    rows = []
    for action in (plain, *(action for action in result.actions if action.verdict in (FIRST, HELPS))):
        work = action.work or 0.0
        money = result.costs.money(work, action.labels)
        spent = work * result.costs.hours if _unit(result, words) == words("hour") else money
        gain = None if action.gain is None or not spent or spent < LEAST else 100 * action.gain.difference / spent
        rows.append(
            _CostRow(
                words("worth_of.baseline") if action is plain else words.action(action, result),
                work * result.costs.hours,
                words.time(work * result.costs.hours) if work else "",
                f"{action.labels}" if action.labels else "",
                "" if money is None else f"< {LEAST}" if 0 < money < LEAST else f"{money:,.2f}",
                "" if gain is None else f"{gain:,.0f}" if abs(gain) >= 100 else f"{gain:.3g}",
            )
        )
    return rows


def _unit(result: Prototype, words: Words) -> str:
    """What gains are divided by: money, or hours where it isn't known what these cost."""
    return str(words("hour") if result.costs.per_hour is None else result.costs.currency)


def _costs_note(result: Prototype, words: Words) -> str:
    own, plan = result.costs, result.plan
    where = words({None: "costs_here", "": "costs_own"}.get(own.machine, "costs_gpu"), gpu=own.machine)
    size = {"available": plan.available, "epochs": plan.epochs, "model": plan.model, "gflop": f"{own.gflop:.3g}"}
    note = words("costs_note", where=where, **size)
    missing = [key for key, value in (("cost.per_hour", own.per_hour), ("cost.per_label", own.per_label)) if value is None]
    return f"{note} {words('costs_missing', keys=words('list').join(missing))}" if missing else str(note)


@dataclass(frozen=True)
class _WorthRow:
    """The outcome of a training run, as shown on the page."""

    name: str
    natural: tuple[str, str]
    robust: tuple[str, str]
    work: str


def _worth(name: str, row: Worth, best: str, words: Words) -> _WorthRow:
    told = words(f"worth_of.{name}") if name in (NATURAL, BASELINE) else words("worth_of.best", what=best)
    natural, robust = (words.parts(found.mean, found.ci95) for found in (row.natural, row.robust))
    return _WorthRow(told, natural, robust, f"{row.work:.2f}")


def _missing(result: Prototype, words: Words) -> str:
    more = next((action for action in result.actions if action.action == MORE), None)
    if more is None or more.gain is None:
        return str(words("missing_unknown"))
    gain = words.estimate(more.gain.difference, more.gain.ci95, sign=True)
    return str(words("missing_yes" if more.verdict in (FIRST, HELPS) else "missing_no", gain=gain))


def _commands(result: Prototype) -> list[str]:
    """What to run next, including the most helpful mitigation."""
    options = {
        "label_smoothing": "method=label_smoothing",
        "mixup": "method.inputs=mixup",
        "ema": "method.averaging=ema",
        "exclude": "data.exclude=check.json",
        EARLY: "trainer.early_stop=ro",
    }
    best = [options[a.action] for a in result.actions if a.verdict in (FIRST, HELPS) and a.action in options][:1]
    path = f' data.path="{result.path}"' if result.path else ""
    data = f"data={result.data}{path}"
    return [f"ro-fast ablate {data}", " ".join(["ro-fast train", data, *best]), "ro-fast evaluate checkpoint=..."]
