"""What to do first against robust overfitting: mitigations by gain and cost, by rules stated beforehand in the suite's YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ro_fast.config import RankingConfig
from ro_fast.errors import InputError
from ro_fast.findings.amounts import arm_name, interval, points
from ro_fast.findings.outcomes import Arm, FinalMeans, Seed
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.statistics import Estimate, mean_ci95
from ro_fast.findings.verdict import Finding, paired_differences
from ro_fast.said import COMMA, Said, together

GAINS = ("last_robust_acc", "ro_gap", "last_natural_acc")
COSTS = ("gflop", "train_seconds", "step_mb")
MITIGATION, COMBINED = "mitigation", "combination"  # roles of arms that are ranked
FIRST, HELPS, COSTS_NATURAL, OPEN, HARMS = "do first", "helps", "costs natural accuracy", "no gain shown", "harms"


@dataclass(frozen=True)
class Ranked:
    """One mitigation, with its gain and cost relative to the arm it is compared with."""

    name: str
    factor: str | None
    against: str
    gain: Comparison
    gap: Comparison
    natural: Comparison
    final: FinalMeans | None
    cost: dict[str, Estimate]  # as multiples
    score: float | None  # lower bound of the gain over the cost; None with one seed, which has no interval
    verdict: str
    tied: bool = False  # not significantly different from the first
    combined: bool = False  # several of the others at once


def check_ranking(part: str, rules: RankingConfig | None, arms: Sequence[str]) -> None:
    """Raises InputError if a suite's ranking names a metric, a cost or an arm that does not exist."""
    if rules is None:
        return
    for key, value, known in (("gain", rules.gain, GAINS[:1]), ("cost", rules.cost, COSTS)):
        if value not in known:
            raise InputError(f"suite '{part}': ranking.{key} '{value}' is unknown; available: {', '.join(known)}")
    for arm in [name for pair in rules.against.items() for name in pair]:
        if arm not in arms:
            raise InputError(f"suite '{part}': ranking.against: there is no arm '{arm}'; available: {', '.join(arms)}")


def rank(arms: Sequence[Arm], rules: RankingConfig) -> list[Ranked]:
    """Orders a suite's mitigations by the lower bound of their gain over their relative cost, best first.

    The gain is the paired difference in ``gain`` to the arm compared with (the baseline, unless ``against`` says otherwise),
    with intervals that hold for all mitigations at once (:mod:`ro_fast.findings.simultaneous`); the cost is the paired ratio to
    that arm in ``cost``. An arm helps if its gain's interval lies above 0 and mean natural accuracy falls by at most
    ``max_natural_loss``, and costs natural accuracy if that falls by more; it harms if the interval lies below 0. Among those
    that help, any whose gain is not significantly different from that of the arm with the largest ``lower bound / cost`` is
    *tied* with it; the cheapest of these comes first.
    With a single seed, which has no interval, no arm helps.

    Args:
        arms: those of a suite, with ``role`` "mitigation" or "combination" if they are to be ranked.
        rules: define gain and cost.
    """
    by_name = {arm.name: arm for arm in arms}
    pairs: dict[str, tuple[Arm, Arm]] = {}
    for arm in arms:
        if arm.role in (MITIGATION, COMBINED):
            against = rules.against.get(arm.name, BASELINE)
            if against not in by_name:
                raise InputError(f"the ranking compares '{arm.name}' with '{against}', which did not run")
            pairs[arm.name] = arm, by_name[against]
    gains = {
        metric: {name: paired_differences(_by_seed(a), _by_seed(b), metric) for name, (a, b) in pairs.items()} for metric in GAINS
    }
    compared = {metric: simultaneous(of_metric) for metric, of_metric in gains.items()}
    entries = [_ranked(*pairs[name], rules, {metric: found[name] for metric, found in compared.items()}) for name in pairs]
    entries.sort(key=lambda entry: (-ORDER.index(entry.verdict), entry.score or 0.0), reverse=True)
    return _ties_first(entries, gains[rules.gain], rules.cost) if entries else []


ORDER = (HELPS, COSTS_NATURAL, OPEN, HARMS)


def _ties_first(entries: list[Ranked], gains: Mapping[str, Sequence[float]], cost: str) -> list[Ranked]:
    """Those that help and can't be distinguished from the best, cheapest first; then the others in their order."""
    top = entries[0]
    if top.verdict != HELPS:
        return entries
    helping = [entry for entry in entries[1:] if entry.verdict == HELPS]
    family = {
        entry.name: [a - b for a, b in zip(gains[top.name], gains[entry.name], strict=True)]
        for entry in helping
        if len(gains[entry.name]) == len(gains[top.name])
    }
    lead = simultaneous(family) if family else {}
    tied = [top, *(e for e in helping if e.name in lead and (ci95 := lead[e.name].ci95) is not None and ci95[0] <= 0 <= ci95[1])]
    tied.sort(key=lambda entry: (entry.cost[cost].mean, -(entry.score or 0.0)))
    names = [entry.name for entry in tied]
    tied = [replace(entry, tied=len(tied) > 1, verdict=FIRST if entry is tied[0] else HELPS) for entry in tied]
    return tied + [entry for entry in entries if entry.name not in names]


def _ranked(arm: Arm, against: Arm, rules: RankingConfig, compared: Mapping[str, Comparison]) -> Ranked:
    cost = {name: ratio for name in COSTS if (ratio := _ratio(arm, against, name)) is not None}
    gain, verdict, score = compared[rules.gain], OPEN, None
    if gain.ci95 is not None and rules.cost in cost:
        score = gain.ci95[0] / cost[rules.cost].mean
        if gain.ci95[0] > 0:
            verdict = HELPS if compared["last_natural_acc"].difference >= -rules.max_natural_loss else COSTS_NATURAL
        elif gain.ci95[1] < 0:
            verdict = HARMS
    return Ranked(
        name=arm.name,
        factor=arm.factor,
        against=against.name,
        gain=gain,
        gap=compared["ro_gap"],
        natural=compared["last_natural_acc"],
        final=arm.final,
        cost=cost,
        score=score,
        verdict=verdict,
        combined=arm.role == COMBINED,
    )


def finding_of_ranking(ranking: Sequence[Ranked], data: str, cost: str = "gflop") -> Finding:
    """What to do first and how certain that is, in two sentences."""
    helps = [entry for entry in ranking if entry.verdict in (FIRST, HELPS)]
    if not helps:
        text = "No mitigation is shown to raise the last robust accuracy on {data}; {tried} were tried."
        first = Said("ranking.none", text, data=data, tried=len(ranking))
    else:
        top = helps[0]
        others = [arm_name(entry.name) for entry in helps[1:] if entry.tied]
        text = " (indistinguishable, and no cheaper: {others})"
        first = Said(
            "ranking.first",
            "Do first on {data}: {first}, which raises the last robust accuracy by {gain} ({interval}) at {cost} times the "
            "training work{tied}; {helping} of {tried} mitigations are shown to help.",
            data=data,
            first=arm_name(top.name),
            gain=points(top.gain.difference),
            interval=interval(top.gain.ci95),
            cost=f"{top.cost[cost].mean:.2f}",
            tied=Said("ranking.tied", text, others=together(others, COMMA)) if others else "",
            helping=len(helps),
            tried=len(ranking),
        )
    combined = ""
    if any(entry.combined for entry in ranking):
        text = "; which mitigations are combined follows from what each gained alone, with the same seeds"
        combined = Said("ranking.combined", text)
    sure = Said(
        "ranking.sure",
        "How sure: paired by training seed on one fixed draw of the data, ordered by a rule fixed in the suite's YAML before the "
        "runs; the 95 % intervals hold for all mitigations at once{combined}.",
        combined=combined,
    )
    return Finding([first, sure])


def _by_seed(arm: Arm) -> dict[int, Seed]:
    return {seed.seed: seed for seed in arm.seeds}


def _number(seed: Seed, cost: str) -> float | None:
    if cost == "step_mb":
        return None if seed.final is None else seed.final.step_mb
    return seed.metric(cost)


def _ratio(arm: Arm, against: Arm, cost: str) -> Estimate | None:
    """A cost as a multiple of another arm's, paired by seed; None if a run lacks it."""
    a, b = ({seed.seed: number for seed in one.seeds if (number := _number(seed, cost))} for one in (arm, against))
    if len(a) < len(arm.seeds) or len(b) < len(against.seeds):
        return None
    return mean_ci95([a[seed] / b[seed] for seed in sorted(a.keys() & b.keys())])
