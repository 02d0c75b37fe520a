"""From a suite's numbers to two sentences: which factor drives robust overfitting here, and how certain that is.

The rules are data, fixed in the suite's YAML before the runs they judge (see configs/suite/factors.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ro_fast.config import RulesConfig
from ro_fast.findings.images import ImageOutcome, paired_images, with_new_images
from ro_fast.findings.outcomes import Arm, Seed
from ro_fast.findings.overfitting import BASELINE, IN_LOSS, NONE, ONE_SEED, OVERFITS, RISING, Overfitting, overfitting
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.statistics import Interval
from ro_fast.said import Said

# The effect of a change on the gap, in words that follow "taking away X"; {share} of the baseline's gap went.
WORDS = {
    "carries": "eliminates {share} of the gap",
    "worsens": "makes it worse",
    "eases": "eliminates only {share} of the gap",
    "no gain": "shrinks the gap only by lowering robustness",
    "no effect": "has no effect",
    "unclear": "has no clear effect",
    "not judged": "is not judged",
}
OPEN = ("unclear", "not judged")
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
class Judged:
    """The effect of one change on the baseline's gap."""

    name: str  # the arm's name
    effect: str  # a key of WORDS
    words: str
    text: str  # the words, with the change of the gap in numbers


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
            plain[name] = _effect(gap, robust, found.gap.difference, rules)
    judged: dict[str, Judged] = {}
    for name, arm in others.items():
        change, effect = compared.get((name, BASELINE, "ro_gap")), plain[name]
        share = min(-change.difference / found.gap.difference, 1.0) if found and change and effect != "not judged" else 0.0
        words = WORDS[effect].format(share=f"{100 * share:.0f} %")
        if effect == "carries" and arm.role == "control":
            effect, words = "eases", WORDS["carries"].format(share=f"{100 * share:.0f} %")
        elif effect == "carries" and arm.role != "mitigation":
            effect, beyond = _beyond_control(arm, others, plain, compared)
            words += beyond
        judged[name] = Judged(name, effect, words, f"{words}: {_change(change, level)}" if change else words)

    if found is None:
        sentences = [
            "Robust overfitting can't be judged here because no baseline arm ran.",
            "How sure: not at all; run the suite with its baseline arm.",
        ]
    elif found.overfits:
        sentences = [_found(data, rules, found, others, judged, level), _how_sure(found, arms, judged, level)]
    else:
        sentences = _nothing_to_explain(data, rules, found, level)
    return Finding(sentences, found.code if found else None, found.overfits if found else None, list(judged.values()))


def more_seeds(arms: Sequence[Arm], finding: Finding) -> int | None:
    """How many seeds to extend to if a factor's part is unclear or overfitting itself is not settled: 3, 5, 8; else None."""
    seeds = max((len(arm.seeds) for arm in arms), default=0)
    roles = {arm.name: arm.role for arm in arms}
    unclear = [entry for entry in finding.arms if entry.effect in OPEN and roles.get(entry.name) == "factor"]
    if finding.code in (None, NONE, IN_LOSS, RISING) or (finding.code == OVERFITS and not unclear):
        return None
    return next((more for more in LOOKS if more > seeds), None)


def points(value: float) -> str:
    """A fraction as percentage points: 0.152 → "15.2 points"."""
    return Said("points", "{value} points", value=number(value))


def interval(ci: Sequence[float] | None, level: float = 0.95) -> str:
    """An interval of fractions as percentage points: [0.12, 0.184] → "95 % interval 12.0 to 18.4"."""
    if ci is None:
        return Said("no_interval", "no interval")
    return Said("interval", "{level} % interval {span}", level=f"{100 * level:.0f}", span=_from_to(ci))


def with_interval(value: float, ci: Sequence[float] | None, level: float = 0.95) -> str:
    """Both together: "15.2 points (95 % interval 12.0 to 18.4)"."""
    return Said("with_interval", "{points} ({interval})", points=points(value), interval=interval(ci, level))


def _from_to(ci: Sequence[float]) -> str:
    return Said("from_to", "{low} to {high}", low=number(ci[0]), high=number(ci[1]))


def number(value: float) -> str:
    """A fraction in hundredths: 0.1524 → "15.2"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"


def _effect(gap: Comparison, robust: Comparison, baseline_gap: float, rules: RulesConfig) -> str:
    if gap.ci95 is None or robust.ci95 is None:
        return "not judged"
    lo, hi = gap.ci95
    if lo > 0:
        return "worsens"
    if hi < 0 and -gap.difference >= rules.min_reduction * baseline_gap:
        if robust.ci95[0] >= -rules.max_robust_loss:
            return "carries"
        return "no gain" if robust.ci95[1] < 0 else "unclear"
    if max(-lo, hi) <= rules.irrelevant * baseline_gap:
        return "no effect"
    return "eases" if hi < 0 else "unclear"


def _beyond_control(
    arm: Arm, arms: Mapping[str, Arm], plain: Mapping[str, str], compared: Mapping[tuple[str, str, str], Comparison]
) -> tuple[str, str]:
    """Whether a factor whose removal cures does more than its matched control, and what follows, in words."""
    control = arms.get(arm.control or "")
    if control is None:
        return "unclear", ", but no matched control ran, so any change of that size might do the same"
    against = compared.get((arm.name, control.name, "ro_gap"))
    if against and against.ci95 and against.ci95[1] < 0:
        return "carries", ""
    if plain[control.name] == "carries":
        return "unclear", f", and so does its control, {_factor(control)}"
    return "unclear", f", but not clearly more than its control, {_factor(control)}"


def _factor(arm: Arm) -> str:
    return arm.factor or arm.name.replace("_", " ")


def _change(gap: Comparison, level: float) -> str:
    """The change of the gap, reported as a positive number if it is a reduction."""
    change, ci95 = gap.difference, gap.ci95
    if change > 0:
        return f"gap larger by {with_interval(change, ci95, level)}"
    return f"gap smaller by {with_interval(-change, None if ci95 is None else (-ci95[1], -ci95[0]), level)}"


def _found(
    data: str, rules: RulesConfig, found: Overfitting, arms: Mapping[str, Arm], judged: Mapping[str, Judged], level: float
) -> str:
    helps = [name for name in arms if judged[name].effect == "carries"]
    either = [name for name in arms if ", and so does its control" in judged[name].words]
    remedies = [name for name in helps if arms[name].role == "mitigation"]
    carriers = [name for name in helps if name not in remedies]
    overfits = (
        f"Training on {data} overfits robustly, losing {with_interval(found.gap.difference, found.gap.ci95, level)} of robust "
        "test accuracy after its best epoch"
    )
    if carriers:
        left = _list([with_interval(arms[name].ro_gap.mean, arms[name].ro_gap.ci95) for name in carriers])
        factors = _list([_factor(arms[name]) for name in carriers])
        carried = f"; it is driven by {factors}, whose removal leaves {left}{', respectively' * (len(carriers) > 1)}"
    elif either:
        factors = _list([f"{_factor(arms[name])} or {_factor(arms[arms[name].control or name])}" for name in either])
        carried = f"; training on fewer samples per step cures it, whichever are left out: {factors}"
    else:
        carried = (
            "; no single removal is shown to cure it" if arms else "; no other arm ran that could show what drives it"
        )
    mitigated = f"mitigate{'s' * (len(remedies) == 1)} it"
    remedied = f", and {_list([_factor(arms[name]) for name in remedies])} {mitigated}" if remedies else ""
    return f"{overfits}{carried}{remedied}{_paper(rules, arms, judged, carriers)}."


def _paper(
    rules: RulesConfig, arms: Mapping[str, Arm], judged: Mapping[str, Judged], carriers: Sequence[str]
) -> str:
    """Where this agrees with the paper and where it does not, as a clause."""
    effect = {name: entry.effect for name, entry in judged.items()}
    published = {name: cures for name, cures in rules.published.items() if name in arms}
    contradicted = [
        name
        for name, cures in published.items()
        if effect[name] in (("worsens", "no effect", "no gain") if cures else ("carries",))
    ]
    if contradicted:
        told = [
            f"in the paper, removing {_factor(arms[name])} {'cures' if published[name] else 'does not cure'} "
            f"robust overfitting, but here it {judged[name].words}"
            for name in contradicted
        ]
        return f"; {'; '.join(told)}"
    if not published:
        return ""
    if not all(effect[name] == "carries" if cures else effect[name] not in OPEN for name, cures in published.items()):
        return "; whether the paper's claim holds here is open"
    beyond = [_factor(arms[name]) for name in carriers if name not in published]
    return f"; this agrees with the paper{f', which does not examine {_list(beyond)}' if beyond else ''}"


def _how_sure(found: Overfitting, arms: Sequence[Arm], judged: Mapping[str, Judged], level: float) -> str:
    factors = {arm.name: _factor(arm) for arm in arms}
    open_cases = [factors[name] for name, entry in judged.items() if entry.effect in OPEN]
    still_open = f"; still unclear is the role of {_list(open_cases)}" if open_cases else ""
    looks = ", since seeds were added until it was settled," if level != 0.95 else ""
    wider = next(arm.ro_gap_new_images for arm in arms if arm.name == BASELINE)
    theirs = "baseline's" if level == 0.95 else "baseline's 95 % interval"  # which is what an arm holds, at any level
    images = f"; with other test images of the same kind too, {theirs} would be {_from_to(wider)}" if wider else ""
    return (
        f"How sure: {found.seeds} training seeds, paired by seed and judged by rules fixed in the suite "
        f"beforehand; the {100 * level:.0f} % intervals{looks} hold for all arms at once and cover the randomness of training on "
        f"one fixed draw of the data, not new data{images}{still_open}."
    )


def _nothing_to_explain(data: str, rules: RulesConfig, found: Overfitting, level: float) -> list[str]:
    gap = with_interval(found.gap.difference, found.gap.ci95, level) if found.gap.ci95 else points(found.gap.difference)
    loses = f"the baseline loses {gap} of robust test accuracy after its best epoch"
    covers = f"the interval covers {found.seeds} training seeds on one fixed draw of the data, not new data"
    if found.code == ONE_SEED:
        return [
            f"With one seed, {loses} on {data}, which is not enough to judge any arm.",
            "How sure: not at all; one seed has no interval: run seeds=3.",
        ]
    if found.code == RISING:
        return [
            f"Training on {data} ends while robust accuracy is still rising, so overfitting can't be judged yet: train longer "
            "(trainer.epochs=).",
            f"How sure: in {found.rising} of {found.seeds} baseline runs the best epoch is in the last tenth of training.",
        ]
    if found.code == IN_LOSS:
        assert found.loss is not None and found.loss.ci95 is not None
        low, high = found.loss.ci95
        return [
            f"Training on {data} overfits robustly in loss only: robust test loss rises by {found.loss.difference:.2f} nats "
            f"({100 * level:.0f} % interval {low:.2f} to {high:.2f}) after its best epoch, while {loses}.",
            f"How sure: arms are judged by accuracy, so none is judged here; {covers}.",
        ]
    if found.code == NONE:
        short = f"less than the {points(rules.min_gap)} from which this suite speaks of overfitting"
        return [
            f"No robust overfitting to explain: on {data} {loses}, {short}.",
            f"How sure: the whole interval lies below that limit; {covers}.",
        ]
    return [
        f"Whether training on {data} overfits robustly is not settled: {loses}, and this suite speaks of overfitting only from "
        f"{points(rules.min_gap)} and if 0 is ruled out.",
        f"How sure: not enough to judge an arm, so run more seeds; {covers}.",
    ]


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
