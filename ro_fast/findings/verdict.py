"""From a suite's numbers to two sentences: which factor carries robust overfitting here, and how sure that is.

The rules are data, fixed in the suite's YAML before the runs they judge (see configs/suite/factors.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.overfitting import BASELINE, IN_LOSS, NONE, ONE_SEED, OVERFITS, RISING, Overfitting, overfitting
from ro_fast.findings.simultaneous import simultaneous

RULES = ("min_gap", "min_reduction", "max_robust_loss", "irrelevant")
# What one change did to the gap, in words that follow "taking away X"; {share} of the baseline's gap went.
WORDS = {
    "carries": "removes {share} of it",
    "worsens": "makes it worse",
    "eases": "removes only {share} of it",
    "no gain": "shrinks the gap only by lowering robustness",
    "no effect": "has no effect",
    "unclear": "has no clear effect",
    "not judged": "is not judged",
}
OPEN = ("unclear", "not judged")


def compare_arms(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences a − b over the seeds that two arms share, with intervals that hold for all of a family at once.

    Each arm is compared with the baseline on ro_gap and last_robust_acc, a family each; and on ro_gap each factor with its
    matched control, and perturbation with data_and_perturbation: does it matter that the sample itself goes too?

    Args:
        arms: ``results["arms"]``; an arm may carry ``control``, the name of its matched control.

    Returns:
        ``[{"a", "b", "metric", "difference", "ci95", "p"}]``; pairs of which an arm is missing are left out.
    """
    names = [arm["name"] for arm in arms]
    by_name = {arm["name"]: {seed["seed"]: seed for seed in arm["seeds"]} for arm in arms}
    pairs = {(arm["name"], arm["control"]): None for arm in arms if arm.get("control")}
    pairs["perturbation", "data_and_perturbation"] = None
    found: list[dict[str, Any]] = []
    for metric, wanted in (
        ("ro_gap", [(name, BASELINE) for name in names if name != BASELINE]),
        ("last_robust_acc", [(name, BASELINE) for name in names if name != BASELINE]),
        ("ro_gap", list(pairs)),
    ):
        family = {}
        for a, b in wanted:
            shared = sorted(by_name.get(a, {}).keys() & by_name.get(b, {}).keys())
            if shared:
                family[f"{a} − {b}"] = [float(by_name[a][seed][metric]) - float(by_name[b][seed][metric]) for seed in shared]
        lending = [values for key, values in _against_baseline(by_name, metric).items() if key not in family]
        compared = simultaneous(family, lending)
        for a, b in wanted:
            if c := compared.get(f"{a} − {b}"):
                ci95 = None if c.ci95 is None else list(c.ci95)
                found.append({"a": a, "b": b, "metric": metric, "difference": c.difference, "ci95": ci95, "p": c.p})
    return found


def _against_baseline(by_name: Mapping[str, Mapping[int, Mapping[str, Any]]], metric: str) -> dict[str, list[float]]:
    base = by_name.get(BASELINE, {})
    return {
        f"{name} − {BASELINE}": [float(seeds[s][metric]) - float(base[s][metric]) for s in sorted(seeds.keys() & base.keys())]
        for name, seeds in by_name.items()
        if name != BASELINE and seeds.keys() & base.keys()
    }


def write_finding(
    results: Mapping[str, Any], rules: Mapping[str, Any], among: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Judge a suite by its rules and say so in two sentences.

    Args:
        results: needs ``data`` and ``arms``; an arm may carry ``role`` (factor, control or mitigation) and ``factor``
            (what it changes, in words).
        rules: ``min_gap``, ``min_reduction``, ``max_robust_loss``, ``irrelevant`` as fractions, and optionally
            ``published``: ``{arm: does its removal cure, in the paper?}``, with ``paper`` to say which one that is.
        among: all arms of a report of several questions, by whose spread the baseline's gap is judged; None: these.

    Returns:
        ``{"code", "overfits": True | False | None, "sentences": [what, how sure], "arms": [{"name", "effect", "words",
        "text"}]}``; ``code`` is that of :class:`~ro_fast.findings.overfitting.Overfitting`, None without a baseline; ``overfits``
        is None where the numbers do not settle it, ``effect`` one of :data:`WORDS`.

    Raises:
        InputError: a rule is missing or is no number.
    """
    for name in RULES:
        if isinstance(rules.get(name), bool) or not isinstance(rules.get(name), (int, float)):
            raise InputError(f"the suite's rules.{name} must be a number, got {rules.get(name)}")
    arms = {arm["name"]: arm for arm in results["arms"]}
    baseline, found = arms.pop(BASELINE, None), overfitting(among or results["arms"], rules["min_gap"])
    if baseline is not None and found is not None:
        ci95 = None if found.gap.ci95 is None else list(found.gap.ci95)
        baseline = {**baseline, "ro_gap": {"mean": found.gap.difference, "ci95": ci95}}
    overfits = found.overfits if found else None
    compared = {(c["a"], c["b"], c["metric"]): c for c in compare_arms(results["arms"])}
    plain: dict[str, str] = {}  # what each change alone did to the gap
    for name in arms:
        gap, robust = (compared.get((name, BASELINE, metric)) for metric in ("ro_gap", "last_robust_acc"))
        plain[name] = "not judged"
        if overfits and baseline and gap and robust and gap["ci95"]:
            plain[name] = _effect(gap, robust, baseline["ro_gap"]["mean"], rules)
    judged: dict[str, dict[str, str]] = {}
    for name, arm in arms.items():
        gap, effect = compared.get((name, BASELINE, "ro_gap")), plain[name]
        share = min(-gap["difference"] / baseline["ro_gap"]["mean"], 1.0) if baseline and gap and effect != "not judged" else 0.0
        words = WORDS[effect].format(share=f"{100 * share:.0f} %")
        if effect == "carries" and arm.get("role") == "control":
            effect, words = "eases", WORDS["carries"].format(share=f"{100 * share:.0f} %")
        elif effect == "carries" and arm.get("role") != "mitigation":
            effect, beyond = _beyond_control(name, arm, arms, plain, compared)
            words += beyond
        text = f"{words}: {_change(gap)}" if gap else words
        judged[name] = {"name": name, "effect": effect, "words": words, "text": text}

    if baseline is None or found is None:
        sentences = [
            "Nothing can be said of robust overfitting here, since no baseline arm ran.",
            "How sure: not at all, run the suite with its baseline arm.",
        ]
    elif overfits:
        sentences = [_found(results, rules, baseline, arms, judged), _how_sure(baseline, arms, judged)]
    else:
        sentences = _nothing_to_explain(results, rules, baseline, found)
    return {"code": found.code if found else None, "overfits": overfits, "sentences": sentences, "arms": list(judged.values())}


def more_seeds(results: Mapping[str, Any]) -> int | None:
    """How many seeds to go on to where a factor's part is unclear or overfitting itself is not settled: 3, 5, 8; else None."""
    seeds = max((len(arm["seeds"]) for arm in results["arms"]), default=0)
    finding = results["finding"]
    roles = {arm["name"]: arm.get("role") for arm in results["arms"]}
    unclear = [e for e in finding.get("arms", []) if e["effect"] in OPEN and roles.get(e["name"]) == "factor"]
    settled = finding.get("code") in (None, NONE, IN_LOSS, RISING) or (finding["code"] == OVERFITS and not unclear)
    if settled:
        return None
    return next((more for more in (3, 5, 8) if more > seeds), None)


def points(value: float) -> str:
    """A fraction as percentage points: 0.152 → "15.2 points"."""
    return f"{_number(value)} points"


def interval(ci95: Sequence[float] | None) -> str:
    """An interval of fractions as percentage points: [0.12, 0.184] → "95 % interval 12.0 to 18.4"."""
    return "no interval" if ci95 is None else f"95 % interval {_number(ci95[0])} to {_number(ci95[1])}"


def with_interval(value: float, ci95: Sequence[float] | None) -> str:
    """Both together: "15.2 points (95 % interval 12.0 to 18.4)"."""
    return f"{points(value)} ({interval(ci95)})"


def _number(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"


def _effect(gap: Mapping[str, Any], robust: Mapping[str, Any], baseline_gap: float, rules: Mapping[str, Any]) -> str:
    lo, hi = gap["ci95"]
    if lo > 0:
        return "worsens"
    if hi < 0 and -gap["difference"] >= rules["min_reduction"] * baseline_gap:
        if robust["ci95"][0] >= -rules["max_robust_loss"]:
            return "carries"
        return "no gain" if robust["ci95"][1] < 0 else "unclear"
    if max(-lo, hi) <= rules["irrelevant"] * baseline_gap:
        return "no effect"
    return "eases" if hi < 0 else "unclear"


def _beyond_control(
    name: str,
    arm: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    plain: Mapping[str, str],
    compared: Mapping[tuple[str, str, str], Mapping[str, Any]],
) -> tuple[str, str]:
    """Whether a factor whose removal cures does more than its matched control, and what follows in words."""
    control = arm.get("control")
    if control not in arms:
        return "unclear", ", but no matched control ran, so that it may be any change as large"
    against = compared.get((name, str(control), "ro_gap"))
    if against and against["ci95"] and against["ci95"][1] < 0:
        return "carries", ""
    told = _factor(arms[str(control)])
    if plain[str(control)] == "carries":
        return "unclear", f", and so does its control, {told}"
    return "unclear", f", not surely more than its control, {told}"


def _factor(arm: Mapping[str, Any]) -> str:
    return str(arm.get("factor") or arm["name"].replace("_", " "))


def _change(gap: Mapping[str, Any]) -> str:
    """The change of the gap, told with a positive number where it is a reduction."""
    change, ci95 = gap["difference"], gap["ci95"]
    if change > 0:
        return f"gap larger by {with_interval(change, ci95)}"
    return f"gap smaller by {with_interval(-change, None if ci95 is None else [-ci95[1], -ci95[0]])}"


def _found(
    results: Mapping[str, Any],
    rules: Mapping[str, Any],
    baseline: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Mapping[str, str]],
) -> str:
    helps = [name for name in arms if judged[name]["effect"] == "carries"]
    either = [name for name in arms if ", and so does its control" in judged[name]["words"]]
    remedies = [name for name in helps if arms[name].get("role") == "mitigation"]
    carriers = [name for name in helps if name not in remedies]
    overfits = (
        f"Training on {results['data']} overfits robustly, losing {_gap_text(baseline['ro_gap'])} of robust test "
        "accuracy after its best epoch"
    )
    if carriers:
        left = _list([_gap_text(arms[name]["ro_gap"]) for name in carriers])
        factors = _list([_factor(arms[name]) for name in carriers])
        carried = f"and what carries it is {factors}: taking that away leaves {left}"
    elif either:
        factors = _list([f"{_factor(arms[name])} or {_factor(arms[arms[name]['control']])}" for name in either])
        carried = f"and training on fewer samples per step cures it, whichever are left out: {factors}"
    else:
        carried = (
            "and no single removal is shown to cure it"
            if arms
            else "and no other arm ran that could say what carries it"
        )
    remedied = f", and {_list([_factor(arms[name]) for name in remedies])} mitigates it" if remedies else ""
    return f"{overfits}, {carried}{remedied}{_paper(rules, arms, judged, carriers)}."


def _paper(
    rules: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Mapping[str, str]],
    carriers: Sequence[str],
) -> str:
    """Where this agrees with what the paper reports and where it does not, as a clause."""
    effect = {name: entry["effect"] for name, entry in judged.items()}
    published = {name: cures for name, cures in (rules.get("published") or {}).items() if name in arms}
    contradicted = [
        name
        for name, cures in published.items()
        if effect[name] in (("worsens", "no effect", "no gain") if cures else ("carries",))
    ]
    if contradicted:
        told = [
            f"in the paper taking away {_factor(arms[name])} {'cures' if published[name] else 'does not cure'} "
            f"robust overfitting, here that {judged[name]['words']}"
            for name in contradicted
        ]
        return f"; {'; '.join(told)}"
    if not published:
        return ""
    if not all(effect[name] == "carries" if cures else effect[name] not in OPEN for name, cures in published.items()):
        return "; whether the paper's claim holds here is open"
    beyond = [_factor(arms[name]) for name in carriers if name not in published]
    return f"; this agrees with the paper{f', which does not speak of {_list(beyond)}' if beyond else ''}"


def _how_sure(
    baseline: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], judged: Mapping[str, Mapping[str, str]]
) -> str:
    open_cases = [_factor(arms[name]) for name, entry in judged.items() if entry["effect"] in OPEN]
    still_open = f"; still unclear is the part of {_list(open_cases)}" if open_cases else ""
    return (
        f"How sure: {len(baseline['seeds'])} training seeds, paired by seed and judged by rules that the suite fixes "
        "beforehand; the 95 % intervals hold for all arms at once and cover the chance in training on one fixed draw of the "
        f"data, not new data{still_open}."
    )


def _nothing_to_explain(
    results: Mapping[str, Any], rules: Mapping[str, Any], baseline: Mapping[str, Any], found: Overfitting
) -> list[str]:
    gap, data = baseline["ro_gap"], results["data"]
    loses = f"the baseline loses {_gap_text(gap)} of robust test accuracy after its best epoch"
    covers = f"the interval covers the chance in {found.seeds} training seeds on one fixed draw of the data, not new data"
    if found.code == ONE_SEED:
        return [
            f"With one seed, {loses} on {data}, and no arm can be judged by that.",
            "How sure: not at all, one seed has no interval: run seeds=3.",
        ]
    if found.code == RISING:
        return [
            f"Training on {data} ends while robust accuracy still rises, so that nothing can be said of overfitting yet: train "
            "longer, trainer.epochs=.",
            f"How sure: in {found.rising} of {found.seeds} baseline runs the best epoch lies in the last tenth.",
        ]
    if found.code == IN_LOSS:
        assert found.loss is not None and found.loss.ci95 is not None
        low, high = found.loss.ci95
        return [
            f"Training on {data} overfits robustly in loss alone: robust test loss rises by {found.loss.difference:.2f} nats "
            f"(95 % interval {low:.2f} to {high:.2f}) after its best epoch, while {loses}.",
            f"How sure: arms are judged by accuracy, so none is judged here; {covers}.",
        ]
    if found.code == NONE:
        short = f"less than the {points(rules['min_gap'])} from which this suite calls it overfitting"
        return [
            f"No robust overfitting to explain: on {data} {loses}, {short}.",
            f"How sure: the whole interval lies below that limit; {covers}.",
        ]
    return [
        f"Whether training on {data} overfits robustly is not settled: {loses}, and this suite speaks of overfitting from "
        f"{points(rules['min_gap'])} on, where 0 is ruled out.",
        f"How sure: not enough to judge an arm, run more seeds; {covers}.",
    ]


def _gap_text(gap: Mapping[str, Any]) -> str:
    return with_interval(gap["mean"], gap["ci95"]) if gap["ci95"] else points(gap["mean"])


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
