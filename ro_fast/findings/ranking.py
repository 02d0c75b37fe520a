"""What to do first against robust overfitting: mitigations by gain and cost, by rules stated beforehand in the suite's YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.statistics import corrected, mean_ci95, paired_difference, t_interval
from ro_fast.findings.verdict import BASELINE, interval, points

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

    Gain is the paired difference in ``gain`` to the arm it is held against (the baseline, unless ``against`` says
    otherwise), cost the paired ratio to that arm in ``cost``. An arm helps if its gain's 95 % interval lies above 0 and natural
    accuracy falls by at most ``max_natural_loss`` in the mean; it harms if the interval lies below 0. Of those that help, the
    one with the largest ``lower bound / cost`` is to be done first.

    Args:
        arms: ``results["arms"]``, with ``role`` "mitigation" where they are to be ranked.
        rules: ``gain``, ``cost``, ``max_natural_loss`` and optionally ``against``: {arm: arm}.

    Returns:
        Best first: ``[{"name", "against", "gain", "gap", "natural", "final", "cost": {cost: {"mean", "ci95"}}, "score",
        "p_corrected", "verdict"}]``; ``score`` is None with one seed, which has no interval, and then no arm helps.
    """
    by_name = {arm["name"]: arm for arm in arms}
    entries = [_entry(arm, by_name, rules) for arm in arms if arm.get("role") == "mitigation"]
    known = [entry for entry in entries if entry["p"] is not None]
    for entry, p in zip(known, corrected([entry["p"] for entry in known]), strict=True):
        entry["p_corrected"] = p
    entries.sort(key=lambda entry: (-_ORDER.index(entry["verdict"]), entry["score"] or 0.0), reverse=True)
    if entries and entries[0]["verdict"] == HELPS:
        entries[0]["verdict"] = FIRST
    return entries


_ORDER = (HELPS, OPEN, HARMS)


def _entry(arm: Mapping[str, Any], arms: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    against = (rules.get("against") or {}).get(arm["name"], BASELINE)
    if against not in arms:
        raise InputError(f"the ranking holds '{arm['name']}' against '{against}', which did not run")
    a, b = _by_seed(arm), _by_seed(arms[against])
    shared = sorted(a.keys() & b.keys())
    differences = {metric: paired_difference(*_pair(a, b, shared, metric)) for metric in GAINS}
    gain, natural = differences[rules["gain"]], differences["last_natural_acc"]
    cost = {name: _ratio(a, b, shared, name) for name in COSTS if all(_number(s, name) for s in (*a.values(), *b.values()))}
    verdict, score = OPEN, None
    if gain["ci95"] is not None and rules["cost"] in cost:
        score = gain["ci95"][0] / cost[rules["cost"]]["mean"]
        if gain["ci95"][0] > 0 and natural["difference"] >= -rules.get("max_natural_loss", 0.0):
            verdict = HELPS
        elif gain["ci95"][1] < 0:
            verdict = HARMS
    p = t_interval([x - y for x, y in zip(*_pair(a, b, shared, rules["gain"]), strict=True)])["p"]
    return {
        "name": arm["name"],
        "factor": arm.get("factor"),
        "against": against,
        "gain": gain,
        "gap": differences["ro_gap"],
        "natural": natural,
        "final": final_means(arm["seeds"]),
        "cost": cost,
        "score": score,
        "p": p,
        "p_corrected": None,
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


def finding_of_ranking(ranking: Sequence[Mapping[str, Any]], data: str) -> dict[str, Any]:
    """What to do first, and how sure that is, in two sentences."""
    helps = [entry for entry in ranking if entry["verdict"] in (FIRST, HELPS)]
    if not helps:
        first = f"No mitigation is shown to raise the last robust accuracy on {data}; those tried are {len(ranking)}."
    else:
        top = helps[0]
        first = (
            f"Do first on {data}: {top['name'].replace('_', ' ')}, which raises the last robust accuracy by "
            f"{points(top['gain']['difference'])} ({interval(top['gain']['ci95'])}) at {_times(top['cost']['gflop']['mean'])} "
            f"the training work; {len(helps)} of {len(ranking)} mitigations are shown to help."
        )
    sure = (
        "How sure: paired by training seed on one fixed draw of the data, ordered by a rule that stood in the suite's YAML "
        "before the runs; intervals are for one comparison each"
    )
    kept = [entry for entry in helps if entry["p_corrected"] is not None and entry["p_corrected"] < 0.05]
    if helps:
        sure += f", and {len(kept)} of the {len(helps)} stand after correction for the number of all"
    return {"sentences": [first, f"{sure}."]}


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"


def _by_seed(arm: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {seed["seed"]: seed for seed in arm["seeds"]}


def _pair(
    a: Mapping[int, Mapping[str, Any]], b: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], metric: str
) -> tuple[list[float], list[float]]:
    return [a[seed][metric] for seed in seeds], [b[seed][metric] for seed in seeds]


def _number(seed: Mapping[str, Any], cost: str) -> float | None:
    return (seed.get("final") or {}).get("step_mb") if cost == "step_mb" else seed.get(cost)


def _ratio(
    a: Mapping[int, Mapping[str, Any]], b: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], cost: str
) -> dict[str, Any]:
    return mean_ci95([float(_number(a[seed], cost) or 0) / float(_number(b[seed], cost) or 1) for seed in seeds])
