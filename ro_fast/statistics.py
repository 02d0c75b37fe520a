"""What a run's curve and an arm's seeds come to: best, last, gap, means and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError

LAST_EPOCHS = 5  # "last" is a mean over these, since one epoch's robust accuracy is noisy
AGGREGATED = ("ro_gap", "last_robust_acc", "last_natural_acc")


def mean_ci95(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval, mean ± t(0.975, n − 1) · s / √n (Student 1908).

    Args:
        values: one number a seed, at least one.

    Returns:
        ``{"mean": float, "ci95": [lo, hi]}``; ``ci95`` is None for one value, which has no spread.

    Raises:
        InputError: there is no value, or one is not finite.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("mean_ci95 needs at least one value, got none")
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"mean_ci95 needs finite values, got {numbers}: a seed's run failed or was left out")
    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n == 1:
        return {"mean": mean, "ci95": None}
    try:
        from scipy.stats import t
    except ImportError as error:
        raise InputError("95 % intervals need scipy: pip install 'ro_fast[train]'") from error
    spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def paired_difference(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Mean of a − b over seeds that both share, with the 95 % interval of the differences (paired t).

    Pairing removes what the arms of a seed have in common: initial weights, data order, the shared prefix.

    Args:
        a: one number a seed.
        b: the same seeds in the same order.

    Returns:
        ``{"difference": float, "ci95": [lo, hi] | None}``.

    Raises:
        InputError: the lengths differ, there is no pair, or a number is not finite.
    """
    if len(a) != len(b):
        raise InputError(f"paired_difference needs the same seeds on both sides, got {len(a)} and {len(b)} values")
    summary = mean_ci95([float(x) - float(y) for x, y in zip(a, b, strict=True)])
    return {"difference": summary["mean"], "ci95": summary["ci95"]}


def summarise_run(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Best, last and their gap on one run's curve.

    ``ro_gap`` is test robust accuracy at the epoch that validation chose, minus the mean of the last five
    epochs' (of all, if fewer). The best on test, which publications print, stands beside it: it is chosen on the
    very numbers it reports, so it flatters.

    Args:
        metrics: the lines of a run's ``metrics.jsonl``, in the order of epochs.

    Returns:
        best_epoch, best_robust_acc, last_robust_acc, last_natural_acc, ro_gap, best_on_test_epoch and
        best_on_test_robust_acc; accuracies are fractions.

    Raises:
        InputError: there is no epoch, a number is missing, or one is not finite.
    """
    if not metrics:
        raise InputError("a run's metrics hold no epoch: it ended before its first one was written")
    epochs = [int(_finite(line, "epoch")) for line in metrics]
    val, robust, natural = (
        [_finite(line, key) for line in metrics] for key in ("val_robust_acc", "test_robust_acc", "test_acc")
    )
    best, best_on_test = val.index(max(val)), robust.index(max(robust))  # index: the earliest of equals
    last = robust[-LAST_EPOCHS:]
    last_robust_acc = math.fsum(last) / len(last)
    return {
        "best_epoch": epochs[best],
        "best_robust_acc": robust[best],
        "last_robust_acc": last_robust_acc,
        "last_natural_acc": math.fsum(natural[-LAST_EPOCHS:]) / len(last),
        "ro_gap": robust[best] - last_robust_acc,
        "best_on_test_epoch": epochs[best_on_test],
        "best_on_test_robust_acc": robust[best_on_test],
    }


def summarise_arm(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and 95 % interval over an arm's seeds of ro_gap, last_robust_acc and last_natural_acc.

    Args:
        seeds: one :func:`summarise_run` a seed.

    Returns:
        ``{metric: mean_ci95(...)}``.
    """
    return {metric: mean_ci95([seed[metric] for seed in seeds]) for metric in AGGREGATED}


def _finite(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"epoch {line.get('epoch', '?')} of the metrics needs a finite {key}, got {value}")
    return float(value)
