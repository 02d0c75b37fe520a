"""What a run's curve and an arm's seeds come to: best, last, gap, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.statistics import mean_ci95

LAST_EPOCHS = 5  # "last" is a mean over these, since one epoch's robust accuracy is noisy
AGGREGATED = ("ro_gap", "last_robust_acc", "last_natural_acc")
MEASURED = ("feature_gap", "feature_gap_natural")  # not at every epoch, and only where a run is asked to


def summarise_run(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Best, last and their gap on one run's curve.

    ``ro_gap`` is test robust accuracy at the epoch that validation chose, minus the mean of the last five
    epochs' (of all, if fewer). The best on test, which publications print, stands beside it: it is chosen on the
    very numbers it reports, so it flatters.

    Args:
        metrics: the lines of a run's ``metrics.jsonl``, in the order of epochs.

    Returns:
        best_epoch, best_robust_acc, last_robust_acc, last_natural_acc, ro_gap, best_on_test_epoch and
        best_on_test_robust_acc; accuracies are fractions. Where features were measured, feature_gap and
        feature_gap_natural, means over the last five measurements.

    Raises:
        InputError: there is no epoch, a number is missing, or one is not finite.
    """
    if not metrics:
        raise InputError("a run's metrics hold no epoch: it ended before its first one was written")
    epochs = [int(_finite(line, "epoch")) for line in metrics]
    val, robust, natural = ([_finite(line, key) for line in metrics] for key in ("val_robust_acc", "test_robust_acc", "test_acc"))
    best, best_on_test = val.index(max(val)), robust.index(max(robust))  # index: the earliest of equals
    last = robust[-LAST_EPOCHS:]
    measured = {key: [float(line[key]) for line in metrics if line.get(key) is not None][-LAST_EPOCHS:] for key in MEASURED}
    last_robust_acc = math.fsum(last) / len(last)
    return {
        "best_epoch": epochs[best],
        "best_robust_acc": robust[best],
        "last_robust_acc": last_robust_acc,
        "last_natural_acc": math.fsum(natural[-LAST_EPOCHS:]) / len(last),
        "ro_gap": robust[best] - last_robust_acc,
        "best_on_test_epoch": epochs[best_on_test],
        "best_on_test_robust_acc": robust[best_on_test],
        **{key: math.fsum(values) / len(values) for key, values in measured.items() if values},
    }


def summarise_arm(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and 95 % interval over an arm's seeds of ro_gap, last_robust_acc, last_natural_acc and, where measured, feature gaps.

    Args:
        seeds: one :func:`summarise_run` a seed.

    Returns:
        ``{metric: mean_ci95(...)}``.
    """
    everywhere = [metric for metric in (*AGGREGATED, *MEASURED) if all(metric in seed for seed in seeds)]
    return {metric: mean_ci95([seed[metric] for seed in seeds]) for metric in everywhere}


def _finite(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"epoch {line.get('epoch', '?')} of the metrics needs a finite {key}, got {value}")
    return float(value)
