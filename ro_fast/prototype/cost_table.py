"""What a training run on all images costs with each measure, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from ro_fast.findings.decision import EXTRAPOLATED, MORE, Action
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HELPS, OPEN
from ro_fast.prototype.result import Prototype
from ro_fast.prototype.words import HOURS, Words, unit_of

LEAST = 0.01  # money, below which it is not told


@dataclass(frozen=True)
class CostRow:
    """What a training run with an action costs, each "" if nothing or unknown."""

    what: str
    hours: float
    time: str
    labels: str
    money: str
    gain_per_cost: str


def cost_rows(result: Prototype, words: Words) -> list[CostRow]:
    """Of plain adversarial training, of what is to be done first or helps, and of relabelling instead of leaving out."""
    plain = Action(BASELINE, OPEN, work=1.0)
    gaining = (FIRST, HELPS, EXTRAPOLATED, COSTS_NATURAL)
    helping = [action for action in result.actions if action.verdict in gaining]
    rows = [_cost_row(words("worth_of.baseline"), plain, result, words)]
    rows += [_cost_row(words.action(action, result), action, result, words) for action in helping]
    if result.suspects:
        relabel = Action("relabel", OPEN, work=1.0, labels=result.suspects)
        rows.append(_cost_row(words("costs_relabel"), relabel, result, words))
    return rows


def _cost_row(what: str, action: Action, result: Prototype, words: Words) -> CostRow:
    work = action.work or 0.0
    if action.action == MORE:
        work *= result.plan.train / result.plan.available  # twice the images tried, not twice all
    hours = work * result.costs.hours
    money = result.costs.money(work, action.labels)
    # Time is only part of the cost where labels are needed too, and only money adds the two.
    spent = money if _priced(result) else None if action.labels else hours / HOURS[unit_of(result.costs.hours)]
    if not spent or (_priced(result) and spent < LEAST):
        spent = None
    least = None if action.gain is None or action.gain.ci95 is None else action.gain.ci95[0]
    gain = 100 * least / spent if least is not None and spent is not None else None
    return CostRow(
        what,
        hours,
        words.time(hours) if hours else "",
        f"{action.labels}" if action.labels else "",
        "" if money is None else f"< {LEAST}" if 0 < money < LEAST else f"{money:,.2f}",
        "" if gain is None else _brief(gain),
    )


def _brief(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def unit(result: Prototype, words: Words) -> str:
    """What gains are divided by."""
    return result.costs.currency if _priced(result) else str(words("unit")[unit_of(result.costs.hours)])


def _priced(result: Prototype) -> bool:
    """Whether gains are divided by money; else by time, since it isn't known what that costs."""
    return result.costs.per_hour is not None


def costs_note(result: Prototype, words: Words) -> str:
    """What is measured in the table, and what is needed for more."""
    own, plan = result.costs, result.plan
    where = words({None: "costs_here", "": "costs_own"}.get(own.machine, "costs_gpu"), gpu=own.machine)
    size = {"available": plan.available, "epochs": plan.epochs, "model": plan.model, "gflop": _brief(own.gflop)}
    missing = [key for key, value in (("cost.per_hour", own.per_hour), ("cost.per_label", own.per_label)) if value is None]
    told = [words("costs_note", where=where, unit_head=words("costs_per", unit=unit(result, words)), **size)]
    if missing:
        told.append(words("costs_missing", keys=words("list").join(f"{key}=" for key in missing), currency=own.currency))
    return str(words("space").join(told))
