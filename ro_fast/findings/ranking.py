"""What to do first against robust overfitting: mitigations by gain and cost, by rules stated beforehand in the suite's YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.statistics import mean_ci95
from ro_fast.findings.verdict import interval, points

GAINS = ("last_robust_acc", "ro_gap", "last_natural_acc")
COSTS = ("gflop", "train_seconds", "step_mb")
FIRST, HELPS, OPEN, HARMS = "do first", "helps", "no gain shown", "harms"


def check_ranking(part: str, rules: Mapping[str, Any], arms: Sequence[str]) -> None:
    """Raises InputError where a suite's ranking names a metric, a cost or an arm that is not there."""
    if not rules:
        return
    for key, known in (("gain", GAINS[:1]), ("cost", COSTS)):
        if rules.get(key) not in known:
            raise InputError(f"suite '{part}': ranking.{key} '{rules.get(key)}' is unknown; there are: {', '.join(known)}")
    for arm in [name for pair in (rules.get("against") or {}).items() for name in pair]:
        if arm not in arms:
            raise InputError(f"suite '{part}': ranking.against: there is no arm '{arm}'; there are: {', '.join(arms)}")


def rank(arms: Sequence[Mapping[str, Any]], rules: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Orders a suite's mitigations by the lower bound of their gain over their relative cost.

    Gain is the paired difference in ``gain`` to the arm it is held against (the baseline, unless ``against`` says otherwise),
    with intervals that hold for all mitigations at once (:mod:`ro_fast.findings.simultaneous`); cost the paired ratio to that
    arm in ``cost``. An arm helps if its gain's interval lies above 0 and natural accuracy falls by at most ``max_natural_loss``
    in the mean; it harms if the interval lies below 0. Of those that help, those whose gain does not surely differ from that
    of the one with the largest ``lower bound / cost`` are *tied* with it, and of the tied the cheapest is to be done first.

    Args:
        arms: ``results["arms"]``, with ``role`` "mitigation" where they are to be ranked.
        rules: ``gain``, ``cost``, ``max_natural_loss`` and optionally ``against``: {arm: arm}.

    Returns:
        Best first: ``[{"name", "against", "gain", "gap", "natural", "final", "cost": {cost: {"mean", "ci95"}}, "score", "p",
        "tied", "verdict"}]``; ``score`` is None with one seed, which has no interval, and then no arm helps. p is that of all at
        once: below 0.05 exactly where the gain's interval leaves 0 out.
    """
    by_name = {arm["name"]: arm for arm in arms}
    wanted = [arm for arm in arms if arm.get("role") == "mitigation"]
    differences = {metric: _differences(wanted, by_name, rules, metric) for metric in GAINS}
    compared = {metric: simultaneous(of_metric) for metric, of_metric in differences.items()}
    entries = [_entry(arm, by_name, rules, {metric: found[arm["name"]] for metric, found in compared.items()}) for arm in wanted]
    entries.sort(key=lambda entry: (-_ORDER.index(entry["verdict"]), entry["score"] or 0.0), reverse=True)
    return _ties_first(entries, differences[rules["gain"]], rules["cost"]) if entries else []


_ORDER = (HELPS, OPEN, HARMS)


def _ties_first(entries: list[dict[str, Any]], gains: Mapping[str, Sequence[float]], cost: str) -> list[dict[str, Any]]:
    """Those that help and can't be told apart from the best, the cheapest in front; then the others as they are."""
    for entry in entries:
        entry["tied"] = False
    top = entries[0]
    if top["verdict"] != HELPS:
        return entries
    helping = [entry for entry in entries[1:] if entry["verdict"] == HELPS]
    family = {
        entry["name"]: [a - b for a, b in zip(gains[top["name"]], gains[entry["name"]], strict=True)]
        for entry in helping
        if len(gains[entry["name"]]) == len(gains[top["name"]])
    }
    lead = simultaneous(family) if family else {}
    tied = [top, *(e for e in helping if e["name"] in lead and (c := lead[e["name"]].ci95) is not None and c[0] <= 0 <= c[1])]
    if len(tied) > 1:
        for entry in tied:
            entry["tied"] = True
        tied.sort(key=lambda entry: (entry["cost"][cost]["mean"], -entry["score"]))
    tied[0]["verdict"] = FIRST
    return tied + [entry for entry in entries if not any(entry is other for other in tied)]


def _differences(
    wanted: Sequence[Mapping[str, Any]], arms: Mapping[str, Any], rules: Mapping[str, Any], metric: str
) -> dict[str, list[float]]:
    """Of each mitigation its paired differences, by seed, to the arm that it is held against."""
    found = {}
    for arm in wanted:
        against = (rules.get("against") or {}).get(arm["name"], BASELINE)
        if against not in arms:
            raise InputError(f"the ranking holds '{arm['name']}' against '{against}', which did not run")
        a, b = _by_seed(arm), _by_seed(arms[against])
        found[arm["name"]] = [float(a[seed][metric]) - float(b[seed][metric]) for seed in sorted(a.keys() & b.keys())]
    return found


def _entry(
    arm: Mapping[str, Any], arms: Mapping[str, Any], rules: Mapping[str, Any], compared: Mapping[str, Comparison]
) -> dict[str, Any]:
    against = (rules.get("against") or {}).get(arm["name"], BASELINE)
    a, b = _by_seed(arm), _by_seed(arms[against])
    shared = sorted(a.keys() & b.keys())
    cost = {name: _ratio(a, b, shared, name) for name in COSTS if all(_number(s, name) for s in (*a.values(), *b.values()))}
    gain, verdict, score = compared[rules["gain"]], OPEN, None
    if gain.ci95 is not None and rules["cost"] in cost:
        score = gain.ci95[0] / cost[rules["cost"]]["mean"]
        if gain.ci95[0] > 0 and compared["last_natural_acc"].difference >= -rules.get("max_natural_loss", 0.0):
            verdict = HELPS
        elif gain.ci95[1] < 0:
            verdict = HARMS
    told = {
        metric: {"difference": c.difference, "ci95": None if c.ci95 is None else list(c.ci95)} for metric, c in compared.items()
    }
    return {
        "name": arm["name"],
        "factor": arm.get("factor"),
        "against": against,
        "gain": told[rules["gain"]],
        "gap": told["ro_gap"],
        "natural": told["last_natural_acc"],
        "final": final_means(arm["seeds"]),
        "cost": cost,
        "score": score,
        "p": gain.p,
        "verdict": verdict,
    }


def final_means(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over an arm's seeds, with intervals, of what its runs were scored with: state -> attack -> mean_ci95; {} unscored."""
    if not all("final" in seed for seed in seeds):
        return {}
    states = {state: scores for state, scores in seeds[0]["final"].items() if state in ("best", "last")}
    return {
        state: {kind: mean_ci95([seed["final"][state][kind] for seed in seeds]) for kind in scores}
        for state, scores in states.items()
    }


def finding_of_ranking(ranking: Sequence[Mapping[str, Any]], data: str, cost: str = "gflop") -> dict[str, Any]:
    """What to do first, and how sure that is, in two sentences."""
    helps = [entry for entry in ranking if entry["verdict"] in (FIRST, HELPS)]
    if not helps:
        first = f"No mitigation is shown to raise the last robust accuracy on {data}; those tried are {len(ranking)}."
    else:
        top = helps[0]
        others = [entry["name"].replace("_", " ") for entry in helps[1:] if entry["tied"]]
        tied = f" (not told apart, and no cheaper: {', '.join(others)})" if others else ""
        first = (
            f"Do first on {data}: {top['name'].replace('_', ' ')}, which raises the last robust accuracy by "
            f"{points(top['gain']['difference'])} ({interval(top['gain']['ci95'])}) at {_times(top['cost'][cost]['mean'])} "
            f"the training work{tied}; {len(helps)} of {len(ranking)} mitigations are shown to help."
        )
    sure = (
        "How sure: paired by training seed on one fixed draw of the data, ordered by a rule that stood in the suite's YAML "
        "before the runs; the 95 % intervals hold for all mitigations at once"
    )
    return {"sentences": [first, f"{sure}."]}


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"


def _by_seed(arm: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {seed["seed"]: seed for seed in arm["seeds"]}


def _number(seed: Mapping[str, Any], cost: str) -> float | None:
    return (seed.get("final") or {}).get("step_mb") if cost == "step_mb" else seed.get(cost)


def _ratio(
    a: Mapping[int, Mapping[str, Any]], b: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], cost: str
) -> dict[str, Any]:
    return mean_ci95([float(_number(a[seed], cost) or 0) / float(_number(b[seed], cost) or 1) for seed in seeds])
