"""report.html of a prototype: one page for the decision maker, in English or Japanese, with the numbers of prototype.json."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ro_fast.data.naming import short_name
from ro_fast.errors import InputError
from ro_fast.findings.decision import EARLY, EXCLUDE, EXTRAPOLATED, MORE, NATURAL, Action, Worth
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HELPS, OPEN
from ro_fast.findings.study import Curves, read_curves, read_results
from ro_fast.pages import render
from ro_fast.pages.chart import Drawing
from ro_fast.pages.words import LANGUAGES
from ro_fast.prototype.charts import draw_charts, picture_of_curves
from ro_fast.prototype.cost_table import cost_rows, costs_note, unit
from ro_fast.prototype.enough import MOST
from ro_fast.prototype.result import RESULT, Prototype, read_prototype
from ro_fast.prototype.slide import draw_slide
from ro_fast.prototype.words import Words, points, turned
from ro_fast.report import build_report
from ro_fast.storage import records
from ro_fast.storage.checkpoint import write_text

SLIDE = "slide.svg"
# What a mitigation is called on the command line; the best epoch's weights are kept by every run.
OPTIONS = {
    "label_smoothing": "method=label_smoothing",
    "mixup": "method.inputs=mixup",
    "ema": "method.averaging=ema",
    EXCLUDE: "data.exclude=check.json",
    EARLY: "best.pt",
}


def sentences(result: Prototype, language: str) -> list[str]:
    """The risk, the finding, and what to do first."""
    words = Words(language)
    level, gap = result.risk.level, result.risk.gap
    first = next((action for action in result.actions if action.verdict == FIRST), None)
    return [
        words("risk", level=words(f"level.{level}")),
        words(f"found.{level}", gap=words.estimate(gap.mean, gap.ci95), change=words.change(gap)),
        words("first_none") if first is None else words("first", what=words.action(first, result), gain=_brings(first, words)),
        *_instead(result, first, words),
        *([words("caution_radius", eps=f"{result.plan.eps:.4g}")] if any(c.kind == "radius" for c in result.check) else []),
    ]


def _instead(result: Prototype, first: Action | None, words: Words) -> list[str]:
    """What gains more than the first, but costs more natural accuracy than a help may."""
    least = 0.0 if first is None or first.gain is None else first.gain.difference
    gaining = [a for a in result.actions if a.verdict == COSTS_NATURAL and a.gain is not None and a.gain.difference > least]
    if not gaining:
        return []
    most = max(gaining, key=lambda action: action.gain.difference if action.gain is not None else 0.0)
    assert most.gain is not None and most.natural is not None
    values = {"gain": points(most.gain.difference, "+"), "cost": points(-most.natural.difference)}
    return [words("instead", what=words.action(most, result), limit=f"{100 * result.max_natural_loss:g}", **values)]


def _brings(action: Action, words: Words) -> str:
    """What an action brings, as a sentence of its own after another; "" if that isn't known."""
    if action.gain is None:
        return ""
    work = action.work or 1.0
    values = {
        "gain": words.estimate(action.gain.difference, action.gain.ci95),
        "work": words("same_work") if abs(work - 1) < 0.005 else words("times_work", work=f"{work:.2f}"),
    }
    beyond = action.beyond
    if beyond is None:
        return str(words("first_gain", **values))
    low, high = beyond.ci95 or (0.0, 0.0)
    if low <= 0 <= high:
        difference, span = words.parts(beyond.difference, beyond.ci95, sign=True)
        return str(words("first_gain_over.open", **values, difference=difference, interval=span))
    size = words.estimate(abs(beyond.difference), (low, high) if low > 0 else (-high, -low))
    return str(words(f"first_gain_over.{'above' if low > 0 else 'below'}", **values, beyond=size))


def write_page(result: Prototype, out: Path, language: str) -> Path:
    """Writes the suite's own report, the charts and ``report.html`` into the prototype's folder."""
    suite = out / "suite"
    build_report(suite, language)
    found = read_results(suite)
    curves = read_curves(suite, found)
    best_epochs = {seed.seed: seed.best_epoch for arm in found.arms if arm.name == BASELINE for seed in arm.seeds}
    words = Words(language)
    names = [words.action(action, result) for action in result.actions]
    charts = draw_charts(result, curves, best_epochs, words, names, _best(result, words), out / "figures")
    slide = _slide(result, picture_of_curves(result, curves, words), words)
    write_text(out / SLIDE, slide)
    page = out / "report.html"
    write_text(page, _render(result, curves, charts, slide, words, out))
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


def _render(
    result: Prototype, curves: Curves, charts: Mapping[str, Drawing], slide: str, words: Words, out: Path
) -> str:
    plan = result.plan
    best = _best(result, words)
    return render(
        "page.html.j2",
        Path(__file__).parent,
        t=words,
        name=short_name(result.data, result.path),
        result=result,
        plan=plan,
        whole="_all" if plan.train == plan.available else "",  # what is said otherwise where all images were used
        sentences=result.sentences,
        evidence=_evidence(result, words),
        rang=result.risk.alarms is not None and any(epoch is not None for epoch in result.risk.alarms.alarm_epochs),
        min_gap=f"{100 * result.rules.min_gap:g}",
        curves_more=_about_curves(result, curves, words),
        worth=[_worth(name, row, best, words) for name, row in result.worth.items()],
        worth_more=_about_natural(result, words),
        actions=[_row(number, action, result, words) for number, action in enumerate(result.actions, 1)],
        order_more=_about_order(result, words),
        limit=f"{100 * result.max_natural_loss:g}",
        costs=cost_rows(result, words),
        priced=result.costs.per_hour is not None or result.costs.per_label is not None,
        money=words("costs_money", currency=result.costs.currency),
        per_unit=words("costs_per", unit=unit(result, words)),
        costs_note=costs_note(result, words),
        missing=_missing(result, words),
        tried=sum(action.gain is not None and action.action != MORE for action in result.actions),
        best=words("curves_best", what=best) if best else "",
        say=to_say(result, words),
        slide=slide,
        charts=charts,
        commands=_commands(result, out, words),
    )


def to_say(result: Prototype, words: Words) -> list[str]:
    """Three sentences for a meeting: what was found, what to do first, what is not known."""
    risk, plan, fall = result.risk, result.plan, ""
    if risk.fall is not None:
        fall = words("say_fall", limit=f"{100 * risk.fall.beyond:g}", percent=words.percent(risk.fall.here))
    gap = words.estimate(risk.gap.mean, risk.gap.ci95)
    level = words(f"say_level.{risk.level}", gap=gap, change=words.change(risk.gap))
    found = words("say_found", images=plan.train, found=level, fall=fall)
    first = next((action for action in result.actions if action.verdict == FIRST), None)
    todo = words("first_none")
    if first is not None:
        todo = words("say_first", what=words.action(first, result), gain=_brings(first, words))
    whole = "_all" if plan.train == plan.available else ""
    return [found, todo, words(f"say_unknown{whole}", images=plan.train, available=plan.available, seeds=plan.seeds)]


def _slide(result: Prototype, chart: str, words: Words) -> str:
    plan, best = result.plan, _best(result, words)
    ran = {"arms": plan.arms, "seeds": plan.seeds, "train": plan.train, "test": plan.test, "seconds": f"{plan.seconds:.0f}"}
    return draw_slide(
        title=words("slide_title", data=short_name(result.data, result.path)),
        risk=words("risk", level=words(f"level.{result.risk.level}")),
        level=result.risk.level,
        points=to_say(result, words),
        chart=chart,
        caption=words("slide_caption", best=words("curves_best", what=best) if best else ""),
        decide=words("slide_decide"),
        foot=words("slide_foot", **ran),
        axes=(words("chart.epoch"), words("chart.robust")),
        html=words("html"),
    )


def _best(result: Prototype, words: Words) -> str:
    """The best mitigation in words, "" if none helps."""
    name = next((name for name in result.worth if name not in (NATURAL, BASELINE)), None)
    return words.action(Action(name, OPEN), result) if name else ""


def _evidence(result: Prototype, words: Words) -> list[str]:
    risk = result.risk
    told = [words("evidence_gap", change=words.change(risk.gap), min_gap=f"{100 * result.rules.min_gap:g}")]
    if risk.level == "medium":
        told.append(words("evidence_medium")[risk.code])
    if (fall := risk.fall) is not None:
        limit = f"{100 * fall.beyond:g}"
        told.append(words("evidence_fall", limit=limit, percent=words.percent(fall.here), images=result.plan.train))
        if fall.there is not None:
            told.append(words("evidence_fall_all", limit=limit, percent=words.percent(fall.there), images=fall.images))
    if risk.alarms is None:
        told.append(words("evidence_alarms_none"))
    else:
        rang = [epoch for epoch in risk.alarms.alarm_epochs if epoch is not None]
        epochs = words("list").join(str(epoch + 1) for epoch in sorted(rang))
        at = words("evidence_alarms_at", epochs=epochs, total=result.plan.epochs) if rang else ""
        told.append(words("evidence_alarms", rang=len(rang), seeds=risk.alarms.seeds, at=at))
    if risk.label_errors is not None:
        labels = risk.label_errors
        told.append(words("evidence_labels", count=labels.count, images=result.plan.checked, share=f"{100 * labels.share:.1f}"))
    return told


def _about_curves(result: Prototype, curves: Curves, words: Words) -> str:
    """Why accuracy on training images lies below that on test images, where it does for long; else ""."""
    plain = curves[BASELINE]
    below = int((plain["train_robust_acc"].mean(0) < plain["test_robust_acc"].mean(0)).sum())
    if 4 * below < plain["epoch"].size:
        return ""
    labels = result.risk.label_errors
    wrong = words("curves_wrong_labels", count=labels.count) if labels is not None else ""
    return str(words("curves_below", below=below, total=plain["epoch"].size, labels=wrong))


def _about_natural(result: Prototype, words: Words) -> str:
    """Why training without an attack gives the lower natural accuracy, where it does and labels are suspect; else ""."""
    plain, labels = result.worth.get(NATURAL), result.risk.label_errors
    if plain is None or labels is None or plain.natural.ci95 is None:
        return ""
    ours = result.worth[BASELINE].natural.ci95
    return str(words("worth_natural", count=labels.count)) if ours is not None and ours[0] > plain.natural.ci95[1] else ""


def _about_order(result: Prototype, words: Words) -> list[str]:
    """How sure the order is, and whether more seeds could change it."""
    told = []
    number = {action.action: str(row) for row, action in enumerate(result.actions, 1)}
    alone = [action.action for action in result.actions if action.verdict in (FIRST, HELPS) and action.gain is not None]
    if len(alone) == 1:
        told.append(words("order_alone", first=number[alone[0]]))
    if (lead := result.lead) is not None:
        low, high = lead.difference.ci95 or (0.0, 0.0)
        values = {
            "first": number[lead.first],
            "second": number[lead.second],
            "difference": words.estimate(lead.difference.difference, lead.difference.ci95, sign=True),
        }
        told.append(words("order_open" if low <= 0 <= high else "order_lead", **values))
    tied = [words.action(action, result) for action in result.actions if action.tied]
    if len(tied) > 1:
        told.append(words("order_tied", what=words("list").join(tied)))
    if result.enough is not None and result.plan.seeds == 1:
        told.append(words("one_seed", seeds=result.enough.seeds, options=result.enough.options))
    elif result.enough is not None:
        what = [words.action(action, result) for action in result.actions if action.action in result.enough.actions]
        options = {"seeds": result.enough.seeds, "options": result.enough.options}
        told.append(words("still_open", what=words("list").join(what), **options))
    else:
        told.append(words("more_budget", seeds=MOST))
    return told


@dataclass(frozen=True)
class _Row:
    """An action as shown on the page; numbers with their interval, each "" if there is none."""

    number: int
    what: str
    option: str
    verdict: str
    helps: bool
    gain: tuple[str, str]
    beyond: tuple[str, str]
    natural: tuple[str, str]
    work: str


def _row(number: int, action: Action, result: Prototype, words: Words) -> _Row:
    gain, beyond, natural = (
        None if change is None else words.parts(change.difference, change.ci95, sign=True)
        for change in (action.gain, action.beyond, action.natural)
    )
    return _Row(
        number,
        words.action(action, result),
        OPTIONS.get(action.action, ""),
        words("verdict")[action.verdict],
        action.verdict in (FIRST, HELPS),
        gain or (words("before"), ""),
        beyond or ("", ""),
        natural or ("", ""),
        "" if action.work is None else f"{action.work:.2f}",
    )


@dataclass(frozen=True)
class _WorthRow:
    """The outcome of a training run, as shown on the page."""

    name: str
    natural: tuple[str, str]
    robust: tuple[str, str]
    change: tuple[str, str]  # of robust accuracy after its own best epoch
    work: str


def _worth(name: str, row: Worth, best: str, words: Words) -> _WorthRow:
    told = words(f"worth_of.{name}") if name in (NATURAL, BASELINE) else words("worth_of.best", what=best)
    natural, robust = (words.parts(found.mean, found.ci95) for found in (row.natural, row.robust))
    return _WorthRow(told, natural, robust, words.parts(*turned(row.fall), sign=True), f"{row.work:.2f}")


def _missing(result: Prototype, words: Words) -> str:
    more = next((action for action in result.actions if action.action == MORE), None)
    if more is None or more.gain is None:
        return str(words("missing_unknown"))
    if more.verdict == EXTRAPOLATED:
        return str(words("missing_yes", gain=words.estimate(more.gain.difference, more.gain.ci95)))
    return str(words("missing_no", gain=words.estimate(more.gain.difference, more.gain.ci95, sign=True)))


def _commands(result: Prototype, out: Path, words: Words) -> list[tuple[str, str]]:
    """What to run next and what for, including the most helpful mitigation that training has to be told of."""
    options = OPTIONS | {EXCLUDE: shlex.quote(f"data.exclude={out / 'check' / 'check.json'}")}
    helps = [action.action for action in result.actions if action.verdict in (FIRST, HELPS) and action.action in options]
    best = [options[name] for name in helps if name != EARLY][:1]
    data = result.data_options
    return [
        (words("next_protocol"), f"ro-fast protocol {data} robust=..."),
        (words("next_ablate"), f"ro-fast ablate {data}"),
        (words("next_train"), " ".join(["ro-fast train", data, *best])),
        (words("next_evaluate"), "ro-fast evaluate protocol=outputs/protocol/protocol.yaml checkpoint=..."),
    ]
