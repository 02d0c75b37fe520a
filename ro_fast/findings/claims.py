"""From a suite's numbers to a verdict on each claim: confirmed, not confirmed or contradicted, by rules stated beforehand.

A claim stands in a suite's YAML: a sentence, and under ``all`` the conditions that would have to hold. A condition is
confirmed where its estimate lies on the expected side, by ``at_least`` where that is given, with a p-value below 0.05
after correction over all conditions of the report; it is contradicted where the estimate lies on the other side as surely.
A claim is confirmed if all its conditions are, and contradicted if any of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ro_fast.errors import InputError
from ro_fast.findings.overfitting import NONE, OVERFITS
from ro_fast.findings.simultaneous import simultaneous
from ro_fast.findings.statistics import corrected, peak, rank_correlation, rise_lead, t_interval, trend
from ro_fast.findings.verdict import BASELINE, WORDS, interval, points
from ro_fast.findings.verdict import OPEN as OPEN_EFFECTS

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
PLAIN = ("memorisation_auc",)  # told as a number; the others are fractions, told in points

Curves = Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]  # arm -> seed -> lines of metrics.jsonl


@dataclass
class Found:
    """What one condition came to; ``estimate`` is positive where the claim expects it."""

    estimate: float
    ci95: list[float] | None
    p: float | None
    text: str  # what was found, before p
    verdict: str | None = None  # where the suite's own rules have judged it already, so that both say the same


@dataclass(frozen=True)
class Study:
    """What claims are judged by."""

    arms: Mapping[str, Mapping[str, Any]]
    curves: Curves
    findings: Mapping[str, Mapping[str, Any]]  # part -> what write_finding made of it, where it has rules

    def values(self, arm: str, metric: str) -> dict[int, float]:
        """The metric by seed; seeds that lack it are left out."""
        return {seed["seed"]: seed[metric] for seed in self.arms[arm]["seeds"] if seed.get(metric) is not None}

    def paired(self, arms: Sequence[str], metric: str) -> list[list[float]]:
        """[arms][seeds] over the seeds that all of them have."""
        by_seed = [self.values(arm, metric) for arm in arms]
        shared = sorted(set.intersection(*map(set, by_seed)))
        if not shared:
            raise _Unmeasured(f"{METRICS[metric]} was not measured in {_names(arms)}")
        return [[values[seed] for seed in shared] for values in by_seed]


class _Unmeasured(Exception):
    """The numbers a condition needs are not there."""


# -- the tests ---------------------------------------------------------------------------------------------------------


def _difference(study: Study, c: Mapping[str, Any]) -> Found:
    a, b = study.paired([c["a"], c["b"]], c["metric"])
    sign = 1 if c["expect"] == "higher" else -1
    base, others = study.values(c["b"], c["metric"]), []
    for arm in study.arms:
        values = study.values(arm, c["metric"])
        if arm not in (c["a"], c["b"]) and (shared := sorted(values.keys() & base.keys())):
            others.append([values[seed] - base[seed] for seed in shared])
    found = _moderated([x - y for x, y in zip(a, b, strict=True)], others)
    text = f"{METRICS[c['metric']]} of {_name(c['a'])} minus {_name(c['b'])}: {_amount(c['metric'], found)}"
    return _signed(found, sign, text)


def _level(study: Study, c: Mapping[str, Any]) -> Found:
    (values,) = study.paired([c["arm"]], c["metric"])
    sign = 1 if c["expect"] == "above" else -1
    others = [list(study.values(arm, c["metric"]).values()) for arm in study.arms if arm != c["arm"]]
    found = _moderated(values, [other for other in others if other], against=c["value"])
    limit = _value(c["metric"], c["value"])
    text = f"{METRICS[c['metric']]} of {_name(c['arm'])}: {_amount(c['metric'], found)}, held against {limit}"
    shifted = {**found, "mean": found["mean"] - c["value"]}
    if found["ci95"]:
        shifted["ci95"] = [bound - c["value"] for bound in found["ci95"]]
    return _signed(shifted, sign, text)


def _moderated(values: Sequence[float], others: Sequence[Sequence[float]], against: float = 0.0) -> dict[str, Any]:
    """Mean, interval and p-value of one comparison, whose variance learns from those of its kind as the verdict's does."""
    c = simultaneous({"": [value - against for value in values]}, others)[""]
    ci95 = None if c.ci95 is None else [bound + against for bound in c.ci95]
    return {"mean": c.difference + against, "ci95": ci95, "p": c.p}


def _overfits(study: Study, c: Mapping[str, Any]) -> Found:
    finding = study.findings[c["part"]]
    if finding["code"] is None:
        raise _Unmeasured("no baseline ran")
    verdict = {OVERFITS: CONFIRMED, NONE: CONTRADICTED}.get(finding["code"], OPEN)
    gap = study.arms[BASELINE]["ro_gap"]
    told = f" ({interval(gap['ci95'])})" if gap["ci95"] else ""
    return Found(gap["mean"], gap["ci95"], None, f"gap of baseline: {points(gap['mean'])}{told}, {finding['code']}", verdict)


def _effect(study: Study, c: Mapping[str, Any]) -> Found:
    judged = next((arm for arm in study.findings[c["part"]]["arms"] if arm["name"] == c["arm"]), None)
    if judged is None or judged["effect"] == "not judged":
        raise _Unmeasured(f"{_name(c['arm'])} is not judged, since overfitting is not shown")
    factor = study.arms[c["arm"]].get("factor") or _name(c["arm"])
    verdict = CONFIRMED if judged["effect"] in c["is"] else OPEN if judged["effect"] in OPEN_EFFECTS else CONTRADICTED
    return Found(1.0 if verdict == CONFIRMED else -1.0, None, None, f"taking away {factor} {judged['text']}", verdict)


def _trend(study: Study, c: Mapping[str, Any]) -> Found:
    values = study.paired(c["arms"], c["metric"])
    sign = 1 if c["expect"] == "rising" else -1
    found = trend(values)
    text = f"{METRICS[c['metric']]} from {_name(c['arms'][0])} to {_name(c['arms'][-1])} changes by {_amount(c['metric'], found)}"
    return _signed(found, sign, text)


def _peak(study: Study, c: Mapping[str, Any]) -> Found:
    found = peak(study.paired(c["arms"], c["metric"]))
    best = _name(c["arms"][found["best"]])
    if found["best"] == len(c["arms"]) - 1:
        raise _Unmeasured(f"{METRICS[c['metric']]} is best at the last level, {best}: a peak may lie beyond")
    where = "inside" if found["mean"] > 0 else "at an end"
    text = f"{METRICS[c['metric']]} is best {where}, at {best}; the nearer end lies {_value(c['metric'], abs(found['mean']))} off"
    return _signed(found, 1, text)


def _correlation(study: Study, c: Mapping[str, Any]) -> Found:
    pairs = {}
    for arm in c.get("arms") or study.arms:
        x, y = study.values(arm, c["x"]), study.values(arm, c["y"])
        points = [(x[seed], y[seed]) for seed in sorted(x.keys() & y.keys())]
        if points:
            pairs[arm] = points
    if len(pairs) < 3:
        raise _Unmeasured(f"{METRICS[c['x']]} was measured in {len(pairs)} arms, and a correlation needs 3")
    sign = 1 if c["expect"] == "positive" else -1
    found = rank_correlation(list(pairs.values()))
    text = (
        f"rank correlation of {METRICS[c['x']]} and {METRICS[c['y']]} over {len(pairs)} arms: {found['mean']:.2f}"
        f" (95 % interval {found['ci95'][0]:.2f} to {found['ci95'][1]:.2f})"
    )
    return _signed(found, sign, text)


def _lead(study: Study, c: Mapping[str, Any]) -> Found:
    leads = []
    for arm in c.get("arms") or study.arms:
        for lines in study.curves[arm].values():
            lead = rise_lead(curve(lines, c["x"]), curve(lines, c["y"]))
            if lead is not None:
                leads.append(lead)
    if not leads:
        raise _Unmeasured(f"no run has both {METRICS[c['x']]} by epoch and {METRICS[c['y']]}, each with a rise")
    found = t_interval(leads)
    told = f" (95 % interval {found['ci95'][0]:.1f} to {found['ci95'][1]:.1f})" if found["ci95"] else ""
    when = f"{found['mean']:.1f} epochs{told} before {METRICS[c['y']]}"
    text = f"{METRICS[c['x']]} has done half of its rise {when}, in {len(leads)} runs"
    return _signed(found, 1, text)


# test -> (what it does, keys it needs beside "test", what "expect" may be)
TESTS: dict[str, tuple[Callable[[Study, Mapping[str, Any]], Found], tuple[str, ...], tuple[str, ...]]] = {
    "difference": (_difference, ("metric", "a", "b"), ("higher", "lower")),
    "level": (_level, ("metric", "arm", "value"), ("above", "below")),
    "trend": (_trend, ("metric", "arms"), ("rising", "falling")),
    "peak": (_peak, ("metric", "arms"), ()),
    "correlation": (_correlation, ("x", "y"), ("positive", "negative")),
    "lead": (_lead, ("x", "y"), ("leads",)),
    # What the suite's rules have judged: ro_fast/findings/overfitting.py and verdict.py.
    "overfits": (_overfits, (), ()),
    "effect": (_effect, ("arm", "is"), ()),
}
BY_RULES = ("overfits", "effect")


def curve(lines: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a metric on one run's curve; ``robust_fall`` is the best so far minus now."""
    if metric != "robust_fall":
        measured = [line for line in lines if line.get(metric) is not None]
        return [float(line["epoch"]) for line in measured], [float(line[metric]) for line in measured]
    robust = np.array([line["test_robust_acc"] for line in lines])
    return [float(line["epoch"]) for line in lines], (np.maximum.accumulate(robust) - robust).tolist()


# -- claims ------------------------------------------------------------------------------------------------------------


def check_claims(part: str, claims: Sequence[Mapping[str, Any]], arms: Sequence[str], rules: bool = True) -> None:
    """Raises InputError where a claim names a test, a metric, an arm or rules that the suite doesn't have."""
    for claim in claims:
        where = f"suite '{part}', claim '{claim.get('name')}'"
        if not claim.get("name") or not claim.get("claim") or not claim.get("all"):
            raise InputError(f"{where}: name, claim and all (its conditions) are needed")
        for c in claim["all"]:
            if c.get("test") not in TESTS:
                raise InputError(f"{where}: test '{c.get('test')}' is unknown; there are: {', '.join(TESTS)}")
            _, needed, expected = TESTS[c["test"]]
            missing = [key for key in needed if key not in c]
            if missing:
                raise InputError(f"{where}: test {c['test']} needs {', '.join(missing)}")
            if c["test"] in BY_RULES and not rules:
                raise InputError(f"{where}: test {c['test']} needs the suite's rules, and it has none")
            if odd := [effect for effect in c.get("is", ()) if effect not in WORDS]:
                raise InputError(f"{where}: effect '{odd[0]}' is unknown; there are: {', '.join(WORDS)}")
            if expected and c.get("expect") not in expected:
                raise InputError(f"{where}: expect '{c.get('expect')}' is unknown; there are: {', '.join(expected)}")
            for key in ("metric", "x", "y"):
                if key in c and c[key] not in METRICS:
                    raise InputError(f"{where}: {key} '{c[key]}' is unknown; there are: {', '.join(METRICS)}")
            for arm in [c[key] for key in ("a", "b", "arm") if key in c] + list(c.get("arms") or []):
                if arm not in arms:
                    raise InputError(f"{where}: the suite has no arm '{arm}'; it has: {', '.join(arms)}")


def judge(
    claims: Mapping[str, Sequence[Mapping[str, Any]]],
    arms: Sequence[Mapping[str, Any]],
    curves: Curves,
    findings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Judges the claims of all parts of a report, with one correction over all their conditions.

    Args:
        claims: part -> its claims, as :func:`check_claims` takes them.
        arms: ``results["arms"]``.
        curves: arm -> seed -> lines of metrics.jsonl.
        findings: part -> what its rules found, where it has rules: :func:`ro_fast.findings.verdict.write_finding`.

    Returns:
        part -> ``[{"name", "claim", "number", "verdict", "conditions": [{"test", …, "estimate", "ci95", "p", "p_corrected",
        "verdict", "text"}]}]``, where estimates are positive on the expected side.
    """
    study = Study({arm["name"]: arm for arm in arms}, curves, findings or {})
    found: list[tuple[dict[str, Any], Found | None]] = []
    judged: dict[str, list[dict[str, Any]]] = {}
    for part, of_part in claims.items():
        judged[part] = []
        for claim in of_part:
            conditions = []
            for c in claim["all"]:
                try:
                    result = TESTS[c["test"]][0](study, {**c, "part": part})
                    condition = {**c, "estimate": result.estimate, "ci95": result.ci95, "p": result.p, "text": result.text}
                    if result.verdict is not None:
                        condition["verdict"] = result.verdict
                except _Unmeasured as missing:
                    result = None
                    condition = {**c, "estimate": None, "ci95": None, "p": None, "text": str(missing)}
                conditions.append(condition)
                found.append((condition, result))
            judged[part].append({key: claim.get(key) for key in ("name", "claim", "number")} | {"conditions": conditions})
    tested = [condition for condition, result in found if result is not None and result.p is not None]
    for condition, p in zip(tested, corrected([condition["p"] for condition in tested]), strict=True):
        condition["p_corrected"] = p
    for condition, _ in found:
        condition.setdefault("p_corrected", None)
        if "verdict" not in condition:
            condition["verdict"] = _verdict(condition)
            condition["text"] = _told(condition)
    for of_part in judged.values():
        for claim in of_part:
            verdicts = [condition["verdict"] for condition in claim["conditions"]]
            claim["verdict"] = CONTRADICTED if CONTRADICTED in verdicts else OPEN if OPEN in verdicts else CONFIRMED
    return judged


def finding_of_claims(claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found, and how sure it is, in two sentences from judged claims."""
    if not claims:
        return {
            "sentences": ["This suite states no claim, so its numbers stand without a verdict.", "How sure: see the intervals."]
        }
    told = [f"{claim['claim']}: {claim['verdict']}" for claim in claims]
    tests = [condition for claim in claims for condition in claim["conditions"]]
    refused = sum(c["estimate"] is None or (c["p"] is None and c["verdict"] == OPEN) for c in tests)
    sure = f"How sure: {_count(len(tests), 'condition')}, fixed before the runs, corrected for the number of all in the report"
    if refused:
        sure += f"; {_count(refused, 'condition')} could not be tested, for want of seeds or of a measurement"
    return {"sentences": ["; ".join(told) + ".", sure + "."]}


def finding_of_study(parts: Sequence[Mapping[str, Any]], data: str) -> dict[str, Any]:
    """What a report of several questions found, in two sentences: which factor, and how many claims hold."""
    claims = [claim for part in parts for claim in part["claims"]]
    number = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in (CONFIRMED, CONTRADICTED, OPEN)}
    by_rules = [part["finding"]["sentences"][0] for part in parts if part["rules"]]
    count = (
        f"Of {_count(len(claims), 'claim')} tested on {data}, {number[CONFIRMED]} are confirmed, "
        f"{number[CONTRADICTED]} contradicted and {number[OPEN]} not confirmed either way"
    )
    sure = (
        "how sure: rules and conditions stood in the suites' YAML before the runs, p-values are corrected for the number of "
        f"all{' (the sentence above goes by its own intervals)' if by_rules else ''}, and the seeds cover the chance in training "
        "on one fixed draw of the data, not new data"
    )
    return {"sentences": [*by_rules[:1], f"{count}; {sure}."]}


def _verdict(condition: Mapping[str, Any]) -> str:
    estimate, p = condition["estimate"], condition["p_corrected"]
    if p is None or p >= SIGNIFICANT:
        return OPEN
    if estimate < 0:
        return CONTRADICTED
    return CONFIRMED if estimate >= condition.get("at_least", 0) else OPEN


def _told(condition: Mapping[str, Any]) -> str:
    if condition["estimate"] is None:
        return condition["text"]
    if condition["p"] is None:
        return f"{condition['text']}; one seed has no interval, run seeds=3"
    return f"{condition['text']}, p {_p(condition['p_corrected'])}"


def _signed(found: Mapping[str, Any], sign: int, text: str) -> Found:
    ci95 = found["ci95"]
    if ci95 is not None and sign < 0:
        ci95 = [-ci95[1], -ci95[0]]
    return Found(sign * found["mean"], ci95, found["p"], text)


def _amount(metric: str, found: Mapping[str, Any]) -> str:
    if metric in PLAIN:
        told = f" (95 % interval {found['ci95'][0]:.2f} to {found['ci95'][1]:.2f})" if found["ci95"] else ""
    else:
        told = f" ({interval(found['ci95'])})" if found["ci95"] else ""
    return f"{_value(metric, found['mean'])}{told}"


def _value(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric in PLAIN else points(value)


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _name(arm: str) -> str:
    return arm.replace("_", " ")


def _names(arms: Sequence[str]) -> str:
    return ", ".join(map(_name, arms))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
