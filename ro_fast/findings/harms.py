"""Which property of the data makes robust overfitting worse: arms with worse data, each compared with its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ro_fast.config import SuiteConfig
from ro_fast.errors import InputError
from ro_fast.findings.amounts import arm_name, with_interval
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.verdict import Finding, paired_differences
from ro_fast.said import COMMA, SEMICOLON, Said, together

WORSENS, OPEN, EASES = "makes it worse", "no change shown", "makes it less"
_ORDER = (WORSENS, OPEN, EASES)


@dataclass(frozen=True)
class Harm:
    """The effect of one property: differences from the arm it is compared with, paired by seed, as fractions."""

    name: str
    factor: str | None
    against: str
    gap: Comparison  # change of the robust gap
    best: Comparison  # change of the best robust accuracy
    last: Comparison  # change of the last one
    verdict: str


def check_harms(suite: SuiteConfig) -> None:
    """Raises InputError if a suite orders harms and an arm that others are compared with is not among its arms."""
    names = [arm.name for arm in suite.arms]
    for arm in suite.arms if suite.harms else []:
        against = arm.control or BASELINE
        if against not in names:
            raise InputError(f"suite '{suite.name}': harms compares '{arm.name}' with '{against}'; available: {', '.join(names)}")


def rank_harms(arms: Sequence[Arm]) -> list[Harm]:
    """All arms of a suite except its baseline, those that clearly increase the robust gap first.

    Each is compared with its control if it has one, otherwise with the baseline; intervals hold for all arms at once
    (:mod:`ro_fast.findings.simultaneous`). An arm makes it worse if the interval of the gap's change lies above 0, and less if it
    lies below 0. Within a verdict the larger change comes first.
    """
    by_name = {arm.name: arm for arm in arms}
    pairs = {arm.name: (arm, by_name[arm.control or BASELINE]) for arm in arms if arm.name != BASELINE}
    runs = {arm.name: {seed.seed: seed for seed in arm.seeds} for arm in arms}
    compared = {
        metric: simultaneous({n: paired_differences(runs[a.name], runs[b.name], metric) for n, (a, b) in pairs.items()})
        for metric in ("ro_gap", "best_robust_acc", "last_robust_acc")
    }
    found = []
    for name, (arm, against) in pairs.items():
        gap, best, last = (compared[metric][name] for metric in ("ro_gap", "best_robust_acc", "last_robust_acc"))
        verdict = OPEN if gap.ci95 is None or gap.ci95[0] <= 0 <= gap.ci95[1] else WORSENS if gap.difference > 0 else EASES
        found.append(Harm(name, arm.factor, against.name, gap, best, last, verdict))
    return sorted(found, key=lambda harm: (_ORDER.index(harm.verdict), -harm.gap.difference))


def finding_of_harms(harms: Sequence[Harm], data: str, share: float) -> Finding:
    """Which property matters most and how certain that is, in two sentences."""
    worse = [harm for harm in harms if harm.verdict == WORSENS]
    touched = f"{100 * share:g}"
    if worse:
        told = [
            Said("harms.by", "{factor} by {amount}", factor=_named(h), amount=with_interval(h.gap.difference, h.gap.ci95))
            for h in worse
        ]
        text = "On {data} robust overfitting gets worse when {share} % of the training images are changed: {told}."
        first = Said("harms.worse", text, data=data, share=touched, told=together(told, SEMICOLON))
    else:
        text = (
            "On {data} no property that was tried is shown to make robust overfitting worse when {share} % of the training "
            "images are changed."
        )
        first = Said("harms.none", text, data=data, share=touched)
    costly = sorted((h for h in harms if h.best.ci95 is not None and h.best.ci95[1] < 0), key=lambda h: h.best.difference)
    falls = ""
    if costly:
        told = [
            Said("harms.falls_by", "{factor} ({amount} points)", factor=_named(h), amount=f"{100 * h.best.difference:.1f}")
            for h in costly
        ]
        falls = Said("harms.falls", "The best robust accuracy itself falls with: {told}.", told=together(told, COMMA))
    text = (
        "How sure: paired by training seed on one fixed draw of the data and of the images changed; the 95 % intervals hold for "
        "all properties at once, and removed images are compared with as many removed at random."
    )
    return Finding([together([first, falls]), Said("harms.sure", text)])


def _named(harm: Harm) -> str:
    return harm.factor or arm_name(harm.name)
