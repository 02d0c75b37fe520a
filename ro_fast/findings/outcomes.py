"""The outcome of a run's curve and of an arm's seeds: best, last, gap, costs, and their means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ro_fast.config import ArmConfig, FinalConfig
from ro_fast.errors import InputError
from ro_fast.findings.simultaneous import simultaneous
from ro_fast.findings.statistics import Estimate, Interval, mean_ci95
from ro_fast.storage.epochs import Epoch

LAST_EPOCHS = 5  # "last" is a mean over these, since one epoch's robust accuracy is noisy
AROUND = 1  # "best" is a mean over the best epoch and this many on each side: half the spread of a single epoch's
AGGREGATED = ("ro_gap", "last_robust_acc", "last_natural_acc", "ro_loss_gap", "worst_class_robust_acc")
MEASURED = ("feature_gap", "feature_gap_natural")  # not at every epoch, and only if a run is asked to


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one run's curve; accuracies are fractions, losses nats."""

    best_epoch: int  # by validation
    best_robust_acc: float
    last_robust_acc: float
    last_natural_acc: float
    ro_gap: float
    ro_loss_gap: float | None = None  # None if losses are missing
    best_natural_acc: float | None = None  # at the best epoch, which is chosen by robust accuracy
    still_rising: bool = False  # the best epoch lies in the last tenth
    best_on_test_epoch: int | None = None
    best_on_test_robust_acc: float | None = None
    feature_gap: float | None = None  # this and the next only if features were measured, as means over the last five measurements
    feature_gap_natural: float | None = None


@dataclass(frozen=True)
class Attacked:
    """Test accuracies of one state of a run: natural, under PGD, under the cascade."""

    natural: float
    pgd: float
    cascade: float


@dataclass(frozen=True)
class FinalScores:
    """The final scores of a finished run, as stored in its ``scores.json``: ro_fast/suite/final_scores.py."""

    settings: FinalConfig
    best: Attacked
    last: Attacked
    step_mb: float  # peak memory of a training step's tensors


@dataclass(frozen=True)
class Cost:
    """The cost of training a teacher."""

    gflop: float
    train_seconds: float


@dataclass(frozen=True, kw_only=True)
class Seed(Outcome):
    """One run of an arm: its outcome, what it did with its samples, and its cost; None means not measured."""

    seed: int
    class_robust_acc: list[float | None] | None = None  # by label, in the last epochs; None for one without test images
    class_ro_gap: list[float | None] | None = None
    worst_class_robust_acc: float | None = None
    forgotten_share: float | None = None  # this and the two below: ro_fast/training/sample_history.py
    never_learnt_share: float | None = None
    memorisation_auc: float | None = None
    perturbations: dict[str, dict[str, float]] | None = None  # ro_fast/suite/perturbations.py
    final: FinalScores | None = None
    teachers: dict[str, Cost] | None = None
    seconds: float | None = None
    train_seconds: float | None = None  # this and the next include its teachers' training, whether or not it was shared
    gflop: float | None = None
    peak_mb: float | None = None

    def metric(self, name: str) -> float | None:
        """One of its numbers by name."""
        value = getattr(self, name)
        return None if value is None else float(value)


FinalMeans = dict[str, dict[str, Estimate]]  # "best", "last" -> "natural", "pgd", "cascade"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a suite: what it changes, its runs, and their outcome over seeds."""

    name: str
    role: str | None = None  # baseline, factor, control, mitigation or level
    factor: str | None = None  # what it changes, in words
    control: str | None = None  # its matched control
    fork_epoch: int | None = None
    x: float | None = None  # its level
    seeds: list[Seed]
    final: FinalMeans | None = None
    ro_gap: Estimate
    last_robust_acc: Estimate
    last_natural_acc: Estimate
    ro_gap_new_images: Interval | None = None  # 95 % interval over seeds and another draw of test images; also the next
    last_robust_acc_new_images: Interval | None = None
    worst_class_robust_acc: Estimate | None = None
    ro_loss_gap: Estimate | None = None
    feature_gap: Estimate | None = None
    feature_gap_natural: Estimate | None = None


def summarise_run(epochs: Sequence[Epoch]) -> Outcome:
    """Best, last and the gap between them on one run's curve.

    The best epoch is the one with the greatest validation robust accuracy, as a mean over three epochs. ``ro_gap`` is the mean
    test robust accuracy of those three epochs minus that of the last five (of all, if fewer). ``ro_loss_gap`` is the same in
    robust loss, chosen by validation loss and positive if it rises. The best on test, which publications print, is reported too:
    it is chosen on the very numbers it reports, so it is optimistic.

    Args:
        epochs: those of a run, in order.

    Raises:
        InputError: if there is no epoch, or a number is not finite.
    """
    if not epochs:
        raise InputError("a run's metrics contain no epoch: it ended before writing its first one")
    val, robust, natural = (_finite(epochs, name) for name in ("val_robust_acc", "test_robust_acc", "test_acc"))
    smooth = _smooth(val)
    best, best_on_test = smooth.index(max(smooth)), robust.index(max(robust))  # index: the earliest in case of ties
    best_robust_acc, last_robust_acc = _mean(robust[around(best)]), _mean(robust[last()])
    measured = {name: [value for epoch in epochs if (value := getattr(epoch, name)) is not None] for name in MEASURED}
    return Outcome(
        best_epoch=epochs[best].epoch,
        best_robust_acc=best_robust_acc,
        last_robust_acc=last_robust_acc,
        last_natural_acc=_mean(natural[last()]),
        ro_gap=best_robust_acc - last_robust_acc,
        ro_loss_gap=_loss_gap(epochs),
        best_natural_acc=_mean(natural[around(best)]),
        still_rising=len(epochs) >= 10 and best >= math.ceil(0.9 * len(epochs)),
        best_on_test_epoch=epochs[best_on_test].epoch,
        best_on_test_robust_acc=robust[best_on_test],
        **{name: _mean(values[last()]) for name, values in measured.items() if values},
    )


def _loss_gap(epochs: Sequence[Epoch]) -> float | None:
    """The rise of robust test loss after the best epoch by validation loss; None if losses are missing."""
    if any(epoch.val_robust_loss is None for epoch in epochs):
        return None
    val, test = (_finite(epochs, name) for name in ("val_robust_loss", "test_robust_loss"))
    smooth = _smooth(val)
    return _mean(test[last()]) - _smooth(test)[smooth.index(min(smooth))]


def around(best: int) -> slice:
    """The epochs whose mean is "best"."""
    return slice(max(0, best - AROUND), best + AROUND + 1)


def last() -> slice:
    """The epochs whose mean is "last"."""
    return slice(-LAST_EPOCHS, None)


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over each value and its neighbours."""
    return [_mean(values[around(i)]) for i in range(len(values))]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def summarise_arms(
    configured: Sequence[ArmConfig], seeds: Mapping[str, Sequence[Seed]], forks: Mapping[str, int] | None = None
) -> list[Arm]:
    """The arms of a suite with the means of their runs, and 95 % intervals whose variances borrow from all arms.

    Args:
        configured: the arms.
        seeds: arm -> its runs.
        forks: arm -> the epoch at which it forks.
    """
    found: dict[str, dict[str, Estimate]] = {name: {} for name in seeds}
    for metric in (*AGGREGATED, *MEASURED):
        values = {name: own for name, runs in seeds.items() if (own := _of_all(runs, metric)) is not None}
        for name, own in values.items():
            c = simultaneous({name: own}, [other for of, other in values.items() if of != name])[name]
            found[name][metric] = Estimate(c.difference, c.ci95)
    return [
        Arm(
            name=arm.name,
            role=arm.role,
            factor=arm.factor,
            control=arm.control,
            x=arm.x,
            fork_epoch=(forks or {}).get(arm.name),
            seeds=list(seeds[arm.name]),
            final=final_means(seeds[arm.name]),
            ro_gap=found[arm.name]["ro_gap"],
            last_robust_acc=found[arm.name]["last_robust_acc"],
            last_natural_acc=found[arm.name]["last_natural_acc"],
            worst_class_robust_acc=found[arm.name].get("worst_class_robust_acc"),
            ro_loss_gap=found[arm.name].get("ro_loss_gap"),
            feature_gap=found[arm.name].get("feature_gap"),
            feature_gap_natural=found[arm.name].get("feature_gap_natural"),
        )
        for arm in configured
    ]


def final_means(seeds: Sequence[Seed]) -> FinalMeans | None:
    """Means over an arm's seeds, with intervals, of its runs' scores; None if they were not scored."""
    scored = [seed.final for seed in seeds if seed.final is not None]
    if len(scored) < len(seeds):
        return None
    states = {"best": [vars(final.best) for final in scored], "last": [vars(final.last) for final in scored]}
    return {state: {kind: mean_ci95([run[kind] for run in runs]) for kind in runs[0]} for state, runs in states.items()}


def _of_all(seeds: Sequence[Seed], metric: str) -> list[float] | None:
    """A metric's values, None if a seed lacks it."""
    values = [value for seed in seeds if (value := seed.metric(metric)) is not None]
    return values if len(values) == len(seeds) else None


def _finite(epochs: Sequence[Epoch], name: str) -> list[float]:
    values = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs]
    for number, value in values:
        if not math.isfinite(value):
            raise InputError(f"epoch {number} of the metrics needs a finite {name}, got {value}")
    return [value for _, value in values]
