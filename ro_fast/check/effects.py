"""What a finding does to robust overfitting, where ``ro-fast ablate suite=bias`` has measured it."""

from __future__ import annotations

from pathlib import Path

from ro_fast.config import CheckConfig, DataConfig
from ro_fast.data.naming import as_options
from ro_fast.errors import InputError
from ro_fast.findings.amounts import with_interval
from ro_fast.findings.harms import EASES, WORSENS, Harm
from ro_fast.findings.study import RESULTS, Results, read_results
from ro_fast.said import Said

# Kinds of findings, and the arm of suite=bias that makes the same property worse on purpose.
ARMS = {
    "imbalance": "imbalance",
    "uncovered": "missing_mode",
    "shift": "shift",
    "duplicate": "duplicates",
    "near_duplicate": "duplicates",
    "label_error": "wrong_labels",
}


def measured(config: CheckConfig) -> Results | None:
    """The results of suite=bias in the folder ``config.bias``, else those of the same data beside the check, if there are any.

    Raises:
        InputError: if the folder that is given holds none.
    """
    if config.bias is not None:
        place = Path(config.bias).expanduser()
        results = read_results(place.parent if place.name == RESULTS else place)
        if not results.harms:
            wanted = "give the folder of a finished ro-fast ablate suite=bias"
            raise InputError(f"bias={config.bias} holds suite={results.suite}, which measures no effects of bad data; {wanted}")
        return results
    folder = beside(config)
    if not (folder / RESULTS).is_file():
        return None
    try:
        results = read_results(folder)
    except InputError:
        return None  # nobody asked for it
    same = (results.data, results.config.get("data.path")) == (config.data.name, config.data.path)
    return results if same and results.harms else None


def beside(config: CheckConfig) -> Path:
    """Where ``ro-fast ablate suite=bias`` writes, seen from outputs/check/NAME."""
    return Path(config.out).parent.parent / "ablate" / f"bias-{config.data.name}"


def command(data: DataConfig) -> str:
    """The command that measures the effects on these data."""
    return f"ro-fast ablate suite=bias {as_options(data)}"


def effect(kind: str, results: Results | None) -> str | None:
    """The measured effect of a kind of finding in a sentence; None if it wasn't measured."""
    if results is None or kind not in ARMS:
        return None
    harm = next((harm for harm in results.harms or [] if harm.name == ARMS[kind]), None)
    return None if harm is None else _told(harm, results)


def _told(harm: Harm, results: Results) -> str:
    share = results.config.get("data.bias_share")
    touched, costs = "", ""
    if isinstance(share, float):
        touched = Said("effect.touched", " in {share} % of the training images", share=f"{100 * share:g}")
    against = Said("effect.against", " compared with as many images removed at random") if harm.against != "baseline" else ""
    size = with_interval(harm.gap.difference, harm.gap.ci95)
    if harm.verdict == WORSENS:
        outcome = Said("effect.worsens", "makes robust overfitting worse by {size}", size=size)
    elif harm.verdict == EASES:
        outcome = Said("effect.eases", "changes robust overfitting by {size}", size=size)
    else:
        outcome = Said("effect.open", "is not shown to change robust overfitting ({size})", size=size)
    if harm.best.ci95 is not None and harm.best.ci95[1] < 0:
        low, high = harm.best.ci95
        lost = with_interval(-harm.best.difference, (-high, -low))
        costs = Said("effect.costs", " and costs {lost} of the best robust accuracy", lost=lost)
    return Said(
        "effect.told",
        "Measured on {data}: {factor}{touched}{against} {outcome}{costs}.",
        data=results.data,
        factor=Said(f"factor.{harm.name}", "{name}", name=harm.factor or harm.name),
        touched=touched,
        against=against,
        outcome=outcome,
        costs=costs,
    )
