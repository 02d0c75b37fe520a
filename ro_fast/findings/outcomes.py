"""What a run's curve and an arm's seeds come to: best, last, gap, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.simultaneous import simultaneous

LAST_EPOCHS = 5  # "last" is a mean over these, since one epoch's robust accuracy is noisy
AROUND = 1  # "best" is a mean over the best epoch and as many on each side: half the spread of a single epoch's
AGGREGATED = ("ro_gap", "last_robust_acc", "last_natural_acc", "ro_loss_gap")
MEASURED = ("feature_gap", "feature_gap_natural")  # not at every epoch, and only where a run is asked to


def summarise_run(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Best, last and their gap on one run's curve.

    The best epoch is where validation robust accuracy, as a mean over three epochs, is greatest. ``ro_gap`` is the mean test
    robust accuracy of those three epochs minus that of the last five (of all, if fewer); ``ro_loss_gap`` the same in robust
    loss, chosen by validation loss, positive where it rises. The best on test, which publications print, stands beside it: it
    is chosen on the very numbers it reports, so it flatters.

    Args:
        metrics: the lines of a run's ``metrics.jsonl``, in the order of epochs.

    Returns:
        best_epoch, best_robust_acc, last_robust_acc, last_natural_acc, ro_gap, ro_loss_gap (None where losses are missing),
        still_rising (the best epoch lies in the last tenth), best_on_test_epoch and best_on_test_robust_acc; accuracies are
        fractions, losses nats. Where features were measured, feature_gap and feature_gap_natural, means over the last five
        measurements.

    Raises:
        InputError: there is no epoch, a number is missing, or one is not finite.
    """
    if not metrics:
        raise InputError("a run's metrics hold no epoch: it ended before its first one was written")
    epochs = [int(_finite(line, "epoch")) for line in metrics]
    val, robust, natural = ([_finite(line, key) for line in metrics] for key in ("val_robust_acc", "test_robust_acc", "test_acc"))
    smooth = _smooth(val)
    best, best_on_test = smooth.index(max(smooth)), robust.index(max(robust))  # index: the earliest of equals
    best_robust_acc, last_robust_acc = _smooth(robust)[best], _mean(robust[-LAST_EPOCHS:])
    measured = {key: [float(line[key]) for line in metrics if line.get(key) is not None][-LAST_EPOCHS:] for key in MEASURED}
    return {
        "best_epoch": epochs[best],
        "best_robust_acc": best_robust_acc,
        "last_robust_acc": last_robust_acc,
        "last_natural_acc": _mean(natural[-LAST_EPOCHS:]),
        "ro_gap": best_robust_acc - last_robust_acc,
        "ro_loss_gap": _loss_gap(metrics),
        "still_rising": len(metrics) >= 10 and best >= math.ceil(0.9 * len(metrics)),
        "best_on_test_epoch": epochs[best_on_test],
        "best_on_test_robust_acc": robust[best_on_test],
        **{key: _mean(values) for key, values in measured.items() if values},
    }


def _loss_gap(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    """The rise of robust test loss after the best epoch by validation loss; None where losses are missing."""
    if any(line.get(key) is None for line in metrics for key in ("val_robust_loss", "test_robust_loss")):
        return None
    val, test = ([_finite(line, key) for line in metrics] for key in ("val_robust_loss", "test_robust_loss"))
    smooth = _smooth(val)
    return _mean(test[-LAST_EPOCHS:]) - _smooth(test)[smooth.index(min(smooth))]


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over each value and its neighbours."""
    return [_mean(values[max(0, i - AROUND) : i + AROUND + 1]) for i in range(len(values))]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def summarise_arms(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each arm the mean and 95 % interval over its seeds of every metric of AGGREGATED and MEASURED that all its seeds have.

    The intervals' variances learn from all arms, as those of the verdict do (:mod:`ro_fast.findings.simultaneous`).

    Args:
        arms: each with "seeds", one :func:`summarise_run` a seed.

    Returns:
        of each arm ``{metric: {"mean", "ci95"}}``; ci95 is None for one seed.
    """
    found: list[dict[str, Any]] = [{} for _ in arms]
    for metric in (*AGGREGATED, *MEASURED):
        values = {
            str(i): [float(seed[metric]) for seed in arm["seeds"]]
            for i, arm in enumerate(arms)
            if all(seed.get(metric) is not None for seed in arm["seeds"])
        }
        for i, own in values.items():
            others = [other for j, other in values.items() if j != i]
            c = simultaneous({i: own}, others)[i]
            found[int(i)][metric] = {"mean": c.difference, "ci95": None if c.ci95 is None else list(c.ci95)}
    return found


def _finite(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"epoch {line.get('epoch', '?')} of the metrics needs a finite {key}, got {value}")
    return float(value)
