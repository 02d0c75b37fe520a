"""What a prototype comes to: the risk, with its evidence, and what to do in which order; codes and numbers, no words.

The rules are ``rules`` of configs/prototype.yaml, fixed before the runs that they judge:

* **high**: the baseline overfits, as :mod:`ro_fast.findings.overfitting` says;
* **low**: it says that there is no overfitting, the detector rang in no seed, and the check found no serious label errors;
* **medium**: anything else, and one seed, which has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.findings.overfitting import BASELINE, NONE, OVERFITS, Overfitting
from ro_fast.findings.ranking import FIRST, HARMS, HELPS, OPEN
from ro_fast.overfitting.detector import MIN_VALUES, watch

NATURAL, EXCLUDE = "natural", "exclude"
EARLY, MORE, REPAIR = "early_stopping", "more_data", "repair"


def alarms(metrics: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """What the detector says of the baseline's runs, each a list of lines of metrics; None where they are too short."""
    if any(len(run) < MIN_VALUES for run in metrics):
        return None
    verdicts = [
        watch(
            [line["test_robust_acc"] for line in run],
            test_robust_loss=[line["test_robust_loss"] for line in run],
            train_robust_acc=[line["train_robust_acc"] for line in run],
        )
        for run in metrics
    ]
    return {"seeds": len(verdicts), "alarm_epochs": [verdict.alarm_epoch for verdict in verdicts]}


def assess_risk(
    found: Overfitting, rung: Mapping[str, Any] | None, findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The risk of robust overfitting and its evidence.

    Args:
        found: what the baseline's runs say.
        rung: of :func:`alarms`.
        findings: of check.json.

    Returns:
        ``{"level", "code", "gap", "alarms", "label_errors"}``; label_errors is the finding, where it is serious.
    """
    labels = next((f for f in findings if f["kind"] == "label_error" and f["severity"] == "serious"), None)
    rang = rung is not None and any(epoch is not None for epoch in rung["alarm_epochs"])
    level = "high" if found.code == OVERFITS else "low" if found.code == NONE and not rang and labels is None else "medium"
    return {"level": level, "code": found.code, "gap": _gap(found), "alarms": rung, "label_errors": labels and _short(labels)}


def _gap(found: Overfitting) -> dict[str, Any]:
    return {"mean": found.gap.difference, "ci95": None if found.gap.ci95 is None else list(found.gap.ci95)}


def order_actions(
    results: Mapping[str, Any],
    found: Overfitting,
    findings: Sequence[Mapping[str, Any]],
    curve: Mapping[str, Any] | None,
    rules: Mapping[str, float],
) -> list[dict[str, Any]]:
    """What to do, first things first.

    First what spoils every number: serious findings of the check, except suspect labels, whose removal is tried as a
    mitigation. Then what helps: mitigations as ``ranking`` judges and orders them, and among them, by the lower bound of its
    gain over its work, keeping the epoch that is best on validation, whose gain is the gap itself, and twice the images, whose
    gain is extrapolated. Then what is open, and what harms.

    Returns:
        ``[{"action", "verdict", "gain", "natural", "work", ...}]``; verdict is one of ranking's.
    """
    repairs = [
        {"action": REPAIR, "verdict": FIRST, **_short(finding)}
        for finding in findings
        if finding["severity"] == "serious" and finding["kind"] != "label_error"
    ]
    measured = [_mitigation(entry) for entry in results["ranking"]]
    gap = _gap(found)
    others = [_judged(EARLY, {"difference": gap["mean"], "ci95": gap["ci95"]}, work=1.0, least=0.0)]
    if curve is not None:
        others.append(_judged(MORE, curve["gain"], work=2.0, least=rules["min_gain"]))
    for other in others:
        measured.insert(next((i for i, action in enumerate(measured) if _goes_before(other, action)), len(measured)), other)
    actions = repairs + measured
    if actions and actions[0]["verdict"] == HELPS:
        actions[0]["verdict"] = FIRST
    return actions


def _goes_before(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """HELPS before OPEN before HARMS; among equals the surest gain for the least work."""
    order = (HELPS, OPEN, HARMS)
    return (order.index(a["verdict"]), -a["score"]) < (order.index(b["verdict"]), -b["score"])


def worth(arms: Sequence[Mapping[str, Any]], best: str | None) -> dict[str, dict[str, Any]]:
    """Natural and robust accuracy of training without attack, of plain adversarial training, and with the best mitigation."""
    by_name = {arm["name"]: arm for arm in arms}
    baseline, wanted = by_name[BASELINE], [NATURAL, BASELINE, *([] if best is None else [best])]
    return {
        name: {
            "natural": by_name[name]["last_natural_acc"],
            "robust": by_name[name]["last_robust_acc"],
            "work": _total(by_name[name], "gflop") / _total(baseline, "gflop"),
        }
        for name in wanted
        if name in by_name
    }


def _total(arm: Mapping[str, Any], what: str) -> float:
    return float(sum(seed[what] for seed in arm["seeds"]))


def _mitigation(entry: Mapping[str, Any]) -> dict[str, Any]:
    verdict = HELPS if entry["verdict"] == FIRST else entry["verdict"]
    return {
        "action": entry["name"],
        "factor": entry["factor"],
        "verdict": verdict,
        "gain": entry["gain"],
        "natural": entry["natural"],
        "work": entry["cost"]["gflop"]["mean"],
        "score": entry["score"] or 0.0,
    }


def _judged(action: str, gain: Mapping[str, Any], work: float, least: float) -> dict[str, Any]:
    ci95 = gain["ci95"]
    helps = ci95 is not None and ci95[0] > 0 and gain["difference"] >= least
    verdict = HELPS if helps else OPEN
    return {"action": action, "verdict": verdict, "gain": dict(gain), "work": work, "score": ci95[0] / work if ci95 else 0.0}


def _short(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {key: finding[key] for key in ("kind", "severity", "count", "share")}
