"""From a suite's numbers to two sentences: which factor drives robust overfitting here, and how certain that is.

The rules are data, fixed in the suite's YAML before the runs they judge (see configs/suite/factors.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ro_fast.config import RulesConfig
from ro_fast.findings.effects import OPEN, Judged, beyond_control, change_of, effect_of, words_of
from ro_fast.findings.images import ImageOutcome, paired_images, with_new_images
from ro_fast.findings.outcomes import Arm, Seed
from ro_fast.findings.overfitting import BASELINE, IN_LOSS, NONE, OVERFITS, RISING, overfitting
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.statistics import Interval
from ro_fast.findings.wording import how_sure, nothing_to_explain, what_was_found
from ro_fast.said import Said

LOOKS = (3, 5, 8)  # numbers of seeds at which a suite is judged that adds seeds until it is settled
LOOK_LEVEL = 0.98  # of its intervals: three looks at 2 % each leave about 5 % (tests/findings/test_simultaneous.py)


@dataclass(frozen=True, kw_only=True)
class Difference(Comparison):
    """A paired difference of two arms, a − b, in a metric."""

    a: str
    b: str
    metric: str
    ci95_new_images: Interval | None = None  # over seeds and another draw of test images


@dataclass(frozen=True)
class Finding:
    """A suite's finding and its certainty, in two sentences; if rules judged it, also their code and each arm's effect."""

    sentences: list[str]
    code: str | None = None  # from ro_fast.findings.overfitting.Overfitting; None without a baseline or without rules
    overfits: bool | None = None  # None if the numbers do not settle it
    arms: list[Judged] = field(default_factory=list)


def compare_arms(
    arms: Sequence[Arm], images: Mapping[str, Mapping[int, ImageOutcome]] | None = None, level: float = 0.95
) -> list[Difference]:
    """Paired differences a − b over the seeds that two arms share, with intervals that hold for a whole family at once.

    Each arm is compared with the baseline on ro_gap and last_robust_acc, one family each. On ro_gap, each factor is also compared
    with its matched control, and perturbation with data_and_perturbation: does it matter that the sample itself goes too? Pairs
    with a missing arm are left out.

    Args:
        arms: those of a suite.
        images: arm -> seed -> outcome by test image, if known.
        level: of the intervals.
    """
    names = [arm.name for arm in arms]
    by_name = {arm.name: {seed.seed: seed for seed in arm.seeds} for arm in arms}
    pairs = {(arm.name, arm.control): None for arm in arms if arm.control}
    pairs["perturbation", "data_and_perturbation"] = None
    found: list[Difference] = []
    for metric, wanted in (
        ("ro_gap", [(name, BASELINE) for name in names if name != BASELINE]),
        ("last_robust_acc", [(name, BASELINE) for name in names if name != BASELINE]),
        ("ro_gap", list(pairs)),
    ):
        family = {}
        for a, b in wanted:
            if paired := paired_differences(by_name.get(a, {}), by_name.get(b, {}), metric):
                family[f"{a} − {b}"] = paired
        lending = [values for key, values in _against_baseline(by_name, metric).items() if key not in family]
        compared = simultaneous(family, lending, level)
        for a, b in wanted:
            if c := compared.get(f"{a} − {b}"):
                by_image = paired_images((images or {}).get(a, {}), (images or {}).get(b, {}), metric)
                wider = with_new_images(c.ci95, by_image, len(family)) if len(by_image) == len(family[f"{a} − {b}"]) else None
                found.append(
                    Difference(a=a, b=b, metric=metric, difference=c.difference, ci95=c.ci95, p=c.p, ci95_new_images=wider)
                )
    return found


def paired_differences(a: Mapping[int, Seed], b: Mapping[int, Seed], metric: str) -> list[float]:
    """a − b in a metric, over the seeds that both have."""
    values = [(a[seed].metric(metric), b[seed].metric(metric)) for seed in sorted(a.keys() & b.keys())]
    return [x - y for x, y in values if x is not None and y is not None]


def _against_baseline(by_name: Mapping[str, Mapping[int, Seed]], metric: str) -> dict[str, list[float]]:
    base = by_name.get(BASELINE, {})
    paired = {f"{n} − {BASELINE}": paired_differences(s, base, metric) for n, s in by_name.items() if n != BASELINE}
    return {name: values for name, values in paired.items() if values}


def write_finding(
    data: str, arms: Sequence[Arm], rules: RulesConfig, among: Sequence[Arm] | None = None, level: float = 0.95
) -> Finding:
    """Judges a suite by its rules and states the result in two sentences.

    Args:
        data: the name of the data.
        arms: those of the suite; ``role`` (factor, control or mitigation) and ``factor`` (what it changes) describe each.
        rules: the limits.
        among: all arms of a report of several questions, whose spread is used to judge the baseline's gap; None: these arms.
        level: of all intervals, 0.98 if seeds are added until the suite is settled.
    """
    others = {arm.name: arm for arm in arms if arm.name != BASELINE}
    found = overfitting(among or arms, rules.min_gap, level)
    compared = {(c.a, c.b, c.metric): c for c in compare_arms(arms, level=level)}
    plain: dict[str, str] = {}  # the effect of each change alone on the gap
    for name in others:
        gap, robust = (compared.get((name, BASELINE, metric)) for metric in ("ro_gap", "last_robust_acc"))
        plain[name] = "not judged"
        if found and found.overfits and gap and robust:
            plain[name] = effect_of(gap, robust, found.gap.difference, rules)
    judged: dict[str, Judged] = {}
    for name, arm in others.items():
        change, effect = compared.get((name, BASELINE, "ro_gap")), plain[name]
        share = min(-change.difference / found.gap.difference, 1.0) if found and change and effect != "not judged" else 0.0
        words = words_of(effect, share)
        if effect == "carries" and arm.role == "control":
            effect = "eases"
        elif effect == "carries" and arm.role != "mitigation":
            effect, beyond = beyond_control(arm, others, plain, compared)
            words = Said("removal.beyond", "{words}{beyond}", words=words, beyond=beyond)
        told = Said("removal.change", "{words}: {change}", words=words, change=change_of(change, level)) if change else words
        judged[name] = Judged(name, effect, words, told)

    sentences: list[str]
    if found is None:
        sentences = [
            Said("finding.no_baseline", "Robust overfitting can't be judged here because no baseline arm ran."),
            Said("sure.no_baseline", "How sure: not at all; run the suite with its baseline arm."),
        ]
    elif found.overfits:
        sentences = [what_was_found(data, rules, found, others, judged, level), how_sure(found, arms, judged, level)]
    else:
        sentences = nothing_to_explain(data, rules, found, level)
    return Finding(sentences, found.code if found else None, found.overfits if found else None, list(judged.values()))


def more_seeds(arms: Sequence[Arm], finding: Finding) -> int | None:
    """How many seeds to extend to if a factor's part is unclear or overfitting itself is not settled: 3, 5, 8; else None."""
    seeds = max((len(arm.seeds) for arm in arms), default=0)
    roles = {arm.name: arm.role for arm in arms}
    unclear = [entry for entry in finding.arms if entry.effect in OPEN and roles.get(entry.name) == "factor"]
    if finding.code in (None, NONE, IN_LOSS, RISING) or (finding.code == OVERFITS and not unclear):
        return None
    return next((more for more in LOOKS if more > seeds), None)
