"""From a suite's numbers to a verdict on each claim: confirmed, not confirmed or contradicted, by rules stated beforehand.

A claim is written in a suite's YAML: a sentence and, under ``all``, the conditions that would have to hold. A condition is
confirmed if its estimate lies on the expected side, by ``at_least`` if that is given, with a p-value below 0.05
after correction over all conditions of the report; it is contradicted if the estimate lies equally clearly on the other side.
A claim is confirmed if all its conditions are, and contradicted if any of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ro_fast.config import ClaimConfig, ConditionConfig
from ro_fast.errors import InputError
from ro_fast.findings.amounts import arm_name, points, with_interval
from ro_fast.findings.effects import OPEN as OPEN_EFFECTS
from ro_fast.findings.effects import WORDS
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import BASELINE, NONE, OVERFITS
from ro_fast.findings.simultaneous import simultaneous
from ro_fast.findings.statistics import (
    Interval,
    TestedEstimate,
    corrected,
    peak,
    rank_correlation,
    rise_lead,
    t_interval,
    trend,
)
from ro_fast.findings.verdict import Finding
from ro_fast.said import COMMA, NOTHING, SEMICOLON, Said, together
from ro_fast.storage.epochs import Epoch

SIGNIFICANT = 0.05
CONFIRMED, OPEN, CONTRADICTED = "confirmed", "not confirmed", "contradicted"
METRICS = {
    "ro_gap": "gap",
    "last_robust_acc": "last robust accuracy",
    "best_robust_acc": "best robust accuracy",
    "last_natural_acc": "last natural accuracy",
    "feature_gap": "feature generalisation gap",
    "memorisation_auc": "area under the ROC curve of the memorisation score for redrawn labels",
    "robust_fall": "fall of robust accuracy",
}
PLAIN = ("memorisation_auc",)  # reported as a number; the others are fractions, reported in points

Runs = Mapping[str, Mapping[int, Sequence[Epoch]]]  # arm -> seed -> its epochs


@dataclass
class Condition(ConditionConfig):
    """A condition with its result; ``estimate`` is positive if it is as the claim expects, None if nothing was measured."""

    estimate: float | None = None
    ci95: Interval | None = None
    p: float | None = None
    p_corrected: float | None = None  # over all conditions of the report
    verdict: str = ""
    text: str = ""


@dataclass
class Claim:
    """A claim of a suite, judged."""

    name: str
    claim: str
    number: int | None
    conditions: list[Condition]
    verdict: str = ""


@dataclass(frozen=True)
class Found:
    """The result of one condition, before p-values are corrected."""

    estimate: float
    ci95: Interval | None
    p: float | None
    text: str  # what was found, before p
    verdict: str | None = None  # if the suite's own rules have already judged it, so that the two agree


@dataclass(frozen=True)
class Study:
    """The basis on which claims are judged."""

    arms: Mapping[str, Arm]
    runs: Runs
    finding: Finding | None  # from the suite's rules, if it has any
    parts: Sequence[Sequence[str]]  # the arms of each suite of the report

    def values(self, arm: str, metric: str) -> dict[int, float]:
        """The metric by seed; seeds without it are left out."""
        return {seed.seed: value for seed in self.arms[arm].seeds if (value := seed.metric(metric)) is not None}

    def paired(self, arms: Sequence[str], metric: str) -> list[list[float]]:
        """[arms][seeds] over the seeds that all of them have."""
        by_seed = [self.values(arm, metric) for arm in arms]
        shared = sorted(set.intersection(*map(set, by_seed)))
        if not shared:
            text = "{metric} was not measured in {arms}"
            raise _Unmeasured(Said("claim.unmeasured", text, metric=_metric(metric), arms=together(map(arm_name, arms), COMMA)))
        return [[values[seed] for seed in shared] for values in by_seed]

    def judged_by_rules(self) -> Finding:
        """The finding of the rules; :func:`check_claims` ensures that there are some."""
        if self.finding is None or self.finding.code is None:
            raise _Unmeasured(Said("claim.no_baseline", "no baseline arm ran"))
        return self.finding


class _Unmeasured(Exception):
    """The numbers needed by a condition are missing."""

    def __init__(self, text: Said) -> None:
        super().__init__(text)
        self.text = text


# -- the tests ---------------------------------------------------------------------------------------------------------


def _difference(study: Study, c: ConditionConfig) -> Found:
    metric, first, second = _given(c.metric), _given(c.a), _given(c.b)
    a, b = study.paired([first, second], metric)
    base, others = study.values(second, metric), []
    for arm in study.arms:
        values = study.values(arm, metric)
        if arm not in (first, second) and (shared := sorted(values.keys() & base.keys())):
            others.append([values[seed] - base[seed] for seed in shared])
    found = _moderated([x - y for x, y in zip(a, b, strict=True)], others)
    text = "{metric} of {a} minus {b}: {amount}"
    named = {"metric": _metric(metric), "a": arm_name(first), "b": arm_name(second)}
    told = Said("claim.difference", text, **named, amount=_amount(metric, found))
    return _signed(found, 1 if c.expect == "higher" else -1, told)


def _level(study: Study, c: ConditionConfig) -> Found:
    metric, own, value = _given(c.metric), _given(c.arm), c.value or 0.0
    (values,) = study.paired([own], metric)
    others = [list(study.values(arm, metric).values()) for arm in study.arms if arm != own]
    beyond = _moderated([number - value for number in values], [other for other in others if other])
    ci95 = None if beyond.ci95 is None else (beyond.ci95[0] + value, beyond.ci95[1] + value)
    level = TestedEstimate(beyond.mean + value, ci95, beyond.p)
    text = "{metric} of {arm}: {amount}, compared with {value}"
    named = {"metric": _metric(metric), "arm": arm_name(own), "value": _value(metric, value)}
    told = Said("claim.level", text, **named, amount=_amount(metric, level))
    return _signed(beyond, 1 if c.expect == "above" else -1, told)


def _moderated(values: Sequence[float], others: Sequence[Sequence[float]]) -> TestedEstimate:
    """Mean, interval and p-value of one comparison, whose variance borrows from those of its kind, as the verdict's does."""
    c = simultaneous({"": values}, others)[""]
    return TestedEstimate(c.difference, c.ci95, c.p)


def _overfits(study: Study, c: ConditionConfig) -> Found:
    code = study.judged_by_rules().code
    verdict = {OVERFITS: CONFIRMED, NONE: CONTRADICTED}.get(code or "", OPEN)
    gap = study.arms[BASELINE].ro_gap
    amount = with_interval(gap.mean, gap.ci95) if gap.ci95 else points(gap.mean)
    told = Said("claim.overfits", "gap of baseline: {amount}, {code}", amount=amount, code=_said("code", str(code)))
    return Found(gap.mean, gap.ci95, None, told, verdict)


def _effect(study: Study, c: ConditionConfig) -> Found:
    name = _given(c.arm)
    judged = next((arm for arm in study.judged_by_rules().arms if arm.name == name), None)
    if judged is None or judged.effect == "not judged":
        text = "{arm} is not judged because overfitting is not shown"
        raise _Unmeasured(Said("claim.not_judged", text, arm=arm_name(name)))
    factor = study.arms[name].factor or arm_name(name)
    holds = judged.effect in (c.effects or [])
    verdict = CONFIRMED if holds else OPEN if judged.effect in OPEN_EFFECTS else CONTRADICTED
    told = Said("claim.removing", "removing {factor} {effect}", factor=factor, effect=judged.text)
    return Found(1.0 if holds else -1.0, None, None, told, verdict)


def _trend(study: Study, c: ConditionConfig) -> Found:
    metric, arms = _given(c.metric), c.arms or []
    found = trend(study.paired(arms, metric))
    text = "{metric} from {first} to {last} changes by {amount}"
    named = {"metric": _metric(metric), "first": arm_name(arms[0]), "last": arm_name(arms[-1])}
    told = Said("claim.trend", text, **named, amount=_amount(metric, found))
    return _signed(found, 1 if c.expect == "rising" else -1, told)


def _peak(study: Study, c: ConditionConfig) -> Found:
    metric, arms = _given(c.metric), c.arms or []
    found = peak(study.paired(arms, metric))
    best = arm_name(arms[found.best])
    if found.best == len(arms) - 1:
        text = "{metric} is highest at the last level, {best}; a peak may lie beyond it"
        raise _Unmeasured(Said("claim.beyond", text, metric=_metric(metric), best=best))
    where = Said("claim.inside", "inside the range") if found.mean > 0 else Said("claim.at_end", "at an end of the range")
    text = "{metric} is highest {where}, at {best}; it differs from the nearer end by {amount}"
    amount = _value(metric, abs(found.mean))
    return _signed(found, 1, Said("claim.peak", text, metric=_metric(metric), where=where, best=best, amount=amount))


def _correlation(study: Study, c: ConditionConfig) -> Found:
    first, second = _given(c.x), _given(c.y)
    every = [_circles(study, arms, first, second) for arms in ([c.arms] if c.arms else study.parts)]
    strata = [circles for circles in every if len(circles) >= 3]
    if not strata:
        text = "{metric} was measured in fewer than three arms of a suite, too few for a correlation"
        raise _Unmeasured(Said("claim.few_arms", text, metric=_metric(first)))
    found = rank_correlation(strata)
    if len(strata) == 1:
        where = Said("claim.over_arms", "over {arms} arms", arms=sum(map(len, strata)))
    else:
        where = Said("claim.within", "within each of {suites} suites, on average", suites=len(strata))
    text = "rank correlation of {x} and {y} {where}: {value}{interval}"
    named = {"x": _metric(first), "y": _metric(second), "where": where}
    told = Said("claim.correlation", text, **named, value=f"{found.mean:.2f}", interval=_spread(found.ci95, 2))
    return _signed(found, 1 if c.expect == "positive" else -1, told)


def _circles(study: Study, arms: Sequence[str], first: str, second: str) -> list[list[tuple[float, float]]]:
    """Of each arm that has both metrics its points, one per seed."""
    found = []
    for arm in arms:
        x, y = study.values(arm, first), study.values(arm, second)
        if points_of_arm := [(x[seed], y[seed]) for seed in sorted(x.keys() & y.keys())]:
            found.append(points_of_arm)
    return found


def _lead(study: Study, c: ConditionConfig) -> Found:
    first, second = _given(c.x), _given(c.y)
    leads = []
    for arm in c.arms or study.arms:
        for epochs in study.runs[arm].values():
            lead = rise_lead(curve(epochs, first), curve(epochs, second))
            if lead is not None:
                leads.append(lead)
    if not leads:
        text = "no run shows a rise of both {x} and {y} by epoch"
        raise _Unmeasured(Said("claim.no_rise", text, x=_metric(first), y=_metric(second)))
    found = t_interval(leads)
    text = (
        "{x} reaches half of its rise {value} epochs{interval} before {y} does, in {runs} runs; curves without any lead can show "
        "this too"
    )
    named = {"x": _metric(first), "y": _metric(second), "runs": len(leads)}
    told = Said("claim.lead", text, **named, value=f"{found.mean:.1f}", interval=_spread(found.ci95, 1))
    return Found(found.mean, found.ci95, None, told, OPEN)  # described, not tested


def _given(value: str | None) -> str:
    """A value whose presence :func:`check_claims` has verified."""
    assert value is not None
    return value


# test -> (what it does, keys it needs besides "test", allowed values of "expect")
TESTS: dict[str, tuple[Callable[[Study, ConditionConfig], Found], tuple[str, ...], tuple[str, ...]]] = {
    "difference": (_difference, ("metric", "a", "b"), ("higher", "lower")),
    "level": (_level, ("metric", "arm", "value"), ("above", "below")),
    "trend": (_trend, ("metric", "arms"), ("rising", "falling")),
    "peak": (_peak, ("metric", "arms"), ()),
    "correlation": (_correlation, ("x", "y"), ("positive", "negative")),
    "lead": (_lead, ("x", "y"), ("leads",)),
    # Already judged by the suite's rules: ro_fast/findings/overfitting.py and verdict.py.
    "overfits": (_overfits, (), ()),
    "effect": (_effect, ("arm", "effects"), ()),
}
BY_RULES = ("overfits", "effect")


def curve(epochs: Sequence[Epoch], metric: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a metric on one run's curve; ``robust_fall`` is the best value so far minus the current one."""
    if metric != "robust_fall":
        measured = [(float(e.epoch), float(value)) for e in epochs if (value := getattr(e, metric, None)) is not None]
        return [number for number, _ in measured], [value for _, value in measured]
    robust = np.array([epoch.test_robust_acc for epoch in epochs])
    return [float(epoch.epoch) for epoch in epochs], (np.maximum.accumulate(robust) - robust).tolist()


# -- claims ------------------------------------------------------------------------------------------------------------


def check_claims(part: str, claims: Sequence[ClaimConfig], arms: Sequence[str], rules: bool = True) -> None:
    """Raises InputError if a claim names a test, a metric, an arm or rules that the suite doesn't have."""
    for claim in claims:
        where = f"suite '{part}', claim '{claim.name}'"
        if not claim.name or not claim.claim or not claim.all:
            raise InputError(f"{where}: name, claim and all (its conditions) are needed")
        for c in claim.all:
            if c.test not in TESTS:
                raise InputError(f"{where}: test '{c.test}' is unknown; available: {', '.join(TESTS)}")
            _, needed, expected = TESTS[c.test]
            missing = [key for key in needed if getattr(c, key) is None]
            if missing:
                raise InputError(f"{where}: test {c.test} needs {', '.join(missing)}")
            if c.test in BY_RULES and not rules:
                raise InputError(f"{where}: test {c.test} needs the suite's rules, but it has none")
            if odd := [effect for effect in c.effects or () if effect not in WORDS]:
                raise InputError(f"{where}: effect '{odd[0]}' is unknown; available: {', '.join(WORDS)}")
            if expected and c.expect not in expected:
                raise InputError(f"{where}: expect '{c.expect}' is unknown; available: {', '.join(expected)}")
            for key, metric in (("metric", c.metric), ("x", c.x), ("y", c.y)):
                if metric is not None and metric not in METRICS:
                    raise InputError(f"{where}: {key} '{metric}' is unknown; available: {', '.join(METRICS)}")
            for arm in [name for name in (c.a, c.b, c.arm, *(c.arms or ())) if name is not None]:
                if arm not in arms:
                    raise InputError(f"{where}: the suite has no arm '{arm}'; it has: {', '.join(arms)}")


def judge(
    claims: Mapping[str, Sequence[ClaimConfig]],
    arms: Sequence[Arm],
    runs: Runs,
    findings: Mapping[str, Finding] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[Claim]]:
    """Judges the claims of all parts of a report, with one correction over all their conditions.

    Args:
        claims: part -> its claims, as :func:`check_claims` takes them.
        arms: those of all parts.
        runs: arm -> seed -> its epochs.
        findings: part -> the finding of its rules, if it has rules: :func:`ro_fast.findings.verdict.write_finding`.
        parts: part -> its arms, within which correlations are taken; None: all arms are one part.
    """
    by_name, findings = {arm.name: arm for arm in arms}, findings or {}
    within = list(parts.values()) if parts else [list(by_name)]
    judged: dict[str, list[Claim]] = {}
    for part, of_part in claims.items():
        study = Study(by_name, runs, findings.get(part), within)
        judged[part] = [Claim(c.name, c.claim, c.number, [_tested(study, condition) for condition in c.all]) for c in of_part]
    every = [claim for of_part in judged.values() for claim in of_part]
    everything = [condition for claim in every for condition in claim.conditions]
    tested = [(condition, condition.p) for condition in everything if condition.p is not None]
    for (condition, _), p in zip(tested, corrected([p for _, p in tested]), strict=True):
        condition.p_corrected = p
    for condition in everything:
        if not condition.verdict:
            condition.verdict, condition.text = _verdict(condition), _told(condition)
    for claim in every:
        verdicts = [condition.verdict for condition in claim.conditions]
        claim.verdict = CONTRADICTED if CONTRADICTED in verdicts else OPEN if OPEN in verdicts else CONFIRMED
    return judged


def _tested(study: Study, c: ConditionConfig) -> Condition:
    """A condition with its own numbers, before p-values are corrected."""
    condition = Condition(**vars(c))
    try:
        found = TESTS[c.test][0](study, c)
    except _Unmeasured as missing:
        condition.text = missing.text
        return condition
    condition.estimate, condition.ci95, condition.p, condition.text = found.estimate, found.ci95, found.p, found.text
    condition.verdict = found.verdict or ""
    return condition


def finding_of_claims(claims: Sequence[Claim]) -> Finding:
    """The finding and its certainty, in two sentences from judged claims."""
    if not claims:
        return Finding(
            [
                Said("claims.none", "This suite states no claims, so its numbers come without a verdict."),
                Said("claims.see", "How sure: see the intervals."),
            ]
        )
    verdicts = [_said("claim_verdict", claim.verdict) for claim in claims]
    told = [Said("claims.one", "{claim}: {verdict}", claim=c.claim, verdict=v) for c, v in zip(claims, verdicts, strict=True)]
    tests = [condition for claim in claims for condition in claim.conditions]
    refused = sum(c.estimate is None or (c.p is None and c.verdict == OPEN) for c in tests)
    text = "How sure: {conditions}, fixed before the runs, with p-values corrected over the report{untested}."
    untested: str = ""
    if refused:
        lacking = "; {conditions} could not be tested for lack of seeds or measurements"
        untested = Said("claims.untested", lacking, conditions=_conditions(refused))
    sure = Said("claims.sure", text, conditions=_conditions(len(tests)), untested=untested)
    return Finding([Said("claims.all", "{told}.", told=together(told, SEMICOLON)), sure])


def finding_of_study(claims: Sequence[Claim], by_rules: Sequence[Finding], data: str) -> Finding:
    """The finding of a report with several questions, in two sentences: which factor, and how many claims hold.

    Args:
        claims: those of all parts.
        by_rules: findings of the parts that have rules.
        data: the name of the data.
    """
    number = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in (CONFIRMED, CONTRADICTED, OPEN)}
    text = "{claims} tested on {data}, {confirmed} are confirmed, {contradicted} contradicted and {open} not confirmed either way"
    count = Said(
        "study.count",
        text,
        claims=Said("study.of_one", "Of 1 claim") if len(claims) == 1 else Said("study.of", "Of {n} claims", n=len(claims)),
        data=data,
        confirmed=number[CONFIRMED],
        contradicted=number[CONTRADICTED],
        open=number[OPEN],
    )
    sure = Said(
        "study.sure",
        "{count}; how sure: rules and conditions were fixed in the suites' YAML before the runs, p-values are corrected over the "
        "report{own}, and the seeds cover the randomness of training on one fixed draw of the data, not new data.",
        count=count,
        own=Said("study.own", " (the sentence above uses its own intervals)") if by_rules else "",
    )
    return Finding([*(finding.sentences[0] for finding in by_rules[:1]), sure])


def _verdict(condition: Condition) -> str:
    estimate, p = condition.estimate, condition.p_corrected
    if estimate is None or p is None or p >= SIGNIFICANT:
        return OPEN
    if estimate < 0:
        return CONTRADICTED
    return CONFIRMED if estimate >= (condition.at_least or 0) else OPEN


def _told(condition: Condition) -> str:
    if condition.estimate is None:
        return condition.text
    if condition.p_corrected is None:
        return Said("claim.one_seed", "{found}; one seed has no interval, run seeds=3", found=condition.text)
    return Said("claim.p", "{found}, p {p}", found=condition.text, p=_p(condition.p_corrected))


def _signed(found: TestedEstimate, sign: int, text: str) -> Found:
    ci95 = found.ci95
    if ci95 is not None and sign < 0:
        ci95 = (-ci95[1], -ci95[0])
    return Found(sign * found.mean, ci95, found.p, text)


def _amount(metric: str, found: TestedEstimate) -> str:
    if metric in PLAIN:
        return together([_value(metric, found.mean), _spread(found.ci95, 2)], NOTHING)
    return with_interval(found.mean, found.ci95) if found.ci95 else points(found.mean)


def _spread(ci95: Interval | None, digits: int) -> str:
    if ci95 is None:
        return ""
    return Said("claim.interval", " (95 % interval {low} to {high})", low=f"{ci95[0]:.{digits}f}", high=f"{ci95[1]:.{digits}f}")


def _value(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric in PLAIN else points(value)


def _p(p: float) -> str:
    return Said("claim.p_small", "below 0.001") if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _metric(name: str) -> Said:
    return Said(f"metric.{name}", METRICS[name])


def _said(kind: str, word: str) -> Said:
    return Said(f"{kind}.{word.replace(' ', '_')}", word)


def _conditions(n: int) -> Said:
    return Said("claims.condition", "1 condition") if n == 1 else Said("claims.conditions", "{n} conditions", n=n)
