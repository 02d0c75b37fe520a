"""Robust overfitting on learning curves: the targets on real runs, causality, and what must raise no alarm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import studies
from hypothesis import given, settings
from hypothesis import strategies as st

from ro_fast import InputError, Watch, watch
from ro_fast.overfitting.curve_files import LearningCurve, read_curve, watch_curve
from ro_fast.overfitting.early_stop import EarlyStop

REAL = sorted((Path(__file__).parent / "curves").glob("*.csv"))
CURVES = {path.stem: read_curve(path) for path in REAL}


def final_gap(curve: LearningCurve) -> float:
    acc = curve.columns["test_robust_acc"]
    return max(acc) - float(np.mean(acc[-5:]))


def best_epoch(curve: LearningCurve) -> int:
    return curve.epochs[int(np.argmax(curve.columns["test_robust_acc"]))]


OVERFIT = {name: curve for name, curve in CURVES.items() if final_gap(curve) > 0.05}
SOUND = {name: curve for name, curve in CURVES.items() if final_gap(curve) < 0.015}


def learned(n: int, noise: float, seed: int, top: float = 0.5) -> np.ndarray:
    """A curve that learns and stays."""
    return top * (1 - 0.7 * np.exp(-np.arange(n) / n * 12)) + np.random.default_rng(seed).normal(0, noise, n)


def overfit(n: int, noise: float, seed: int, fall: float = 0.1) -> dict[str, list[float]]:
    """One that learns for half its epochs and then falls, while train accuracy climbs."""
    over = np.clip((np.arange(n) / n - 0.5) * 2, 0, 1)
    return {
        "test_robust_acc": list(learned(n, noise, seed) - fall * over),
        "test_robust_loss": list(1.3 + 4 * fall * over - 2 * (learned(n, noise, seed) - 0.5)),
        "train_robust_acc": list(0.5 * (1 - 0.7 * np.exp(-np.arange(n) / n * 12)) + 0.3 * over),
    }


def test_targets_on_real_runs() -> None:
    """Measured: alarms on 5 of 5 that lose more than 5 points, 17 epochs after the best in the median; 0 of 5 under 1.5."""
    assert len(OVERFIT) == len(SOUND) == 5
    verdicts = {name: watch_curve(curve) for name, curve in OVERFIT.items()}
    assert all(v.overfitting and v.alarm_epoch is not None and v.confidence > 0.9 for v in verdicts.values())
    delays = [v.alarm_epoch - best_epoch(CURVES[name]) for name, v in verdicts.items() if v.alarm_epoch is not None]
    assert np.median(delays) <= 17 and max(delays) <= 20
    for name, curve in SOUND.items():
        verdict = watch_curve(curve)
        assert verdict.alarms == () and verdict.overfitting is False, name


@pytest.mark.parametrize("missing", [{"train_robust_acc"}, {"test_robust_loss"}, {"train_robust_acc", "test_robust_loss"}])
def test_columns_may_be_missing(missing: set[str]) -> None:
    """Less evidence delays alarms, none is wrong: medians 20 epochs without train accuracy, 22 without loss, 42 with neither."""
    delays = []
    for name, curve in (OVERFIT | SOUND).items():
        columns = {name: values for name, values in curve.columns.items() if name not in missing}
        verdict = watch_curve(LearningCurve(curve.epochs, columns))
        assert (verdict.overfitting is True) == (name in OVERFIT)
        if verdict.alarm_epoch is not None:
            delays.append(verdict.alarm_epoch - best_epoch(curve))
    assert np.median(delays) <= (22 if len(missing) == 1 else 42)


@pytest.mark.parametrize("name", sorted(CURVES))
def test_alarm_depends_on_nothing_after_it(name: str) -> None:
    curve = CURVES[name]
    whole = watch_curve(curve)
    for end in {len(curve.epochs) // 2, whole.alarm_epoch or 50, (whole.alarm_epoch or 50) + 1}:
        part = watch_curve(LearningCurve(curve.epochs[:end], {k: v[:end] for k, v in curve.columns.items()}))
        assert part.alarms == tuple(a for a in whole.alarms if a < end)
    monitor = Watch()
    for i, epoch in enumerate(curve.epochs):
        acc, loss, train = (curve.columns[k][i] for k in ("test_robust_acc", "test_robust_loss", "train_robust_acc"))
        verdict = monitor.update(acc, robust_loss=loss, train_robust_acc=train, epoch=epoch)
    assert verdict == whole


@given(st.sampled_from([16, 30, 60, 200, 600]), st.sampled_from([0.0, 0.003, 0.006]), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_any_length_and_noise(n: int, noise: float, seed: int) -> None:
    curve = overfit(n, noise, seed)
    verdict = watch(**curve)
    assert verdict.overfitting and verdict.alarm_epoch is not None and verdict.alarm_epoch >= 0.4 * n
    epochs = [7 + 3 * i for i in range(n)]
    scaled = watch(**curve, epochs=epochs)
    assert scaled.alarm_epoch == 7 + 3 * verdict.alarm_epoch and scaled.confidence == verdict.confidence


@given(st.lists(st.floats(0, 0.02), min_size=10, max_size=300), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_curve_that_only_grows_never_alarms(steps: list[float], trains: bool) -> None:
    acc = list(np.minimum(0.2 + np.cumsum(steps), 1.0))
    verdict = watch(acc, train_robust_acc=acc if trains else None)
    assert verdict.overfitting is False and verdict.alarms == () and verdict.gap <= 0.1


def test_noise_alone_is_no_overfitting() -> None:
    """Curves that stay flat, with the noise of 300 and 1000 test images drawn anew at each epoch: the worst case."""
    for images, most in ((300, 7), (1000, 1)):
        alarmed, sure = 0, 0
        for seed in range(60):
            n = (24, 50, 200)[seed % 3]
            acc = learned(n, 0.5 / np.sqrt(images), seed)
            train = learned(n, 0.002, seed + 999) + 0.02
            verdict = watch(acc, test_robust_loss=2.3 - 2 * acc, train_robust_acc=train)
            alarmed += bool(verdict.alarms)
            sure += verdict.overfitting is True and verdict.confidence > 0.95
        assert alarmed <= most and sure <= most // 2


def test_a_setback_with_train_accuracy_is_no_overfitting() -> None:
    epochs = np.arange(100)
    dip = 0.06 * np.maximum(0, 1 - np.abs(epochs - 60) / 25)
    acc, train = learned(100, 0.004, 0) - dip, learned(100, 0.001, 1) - dip
    assert watch(acc, train_robust_acc=train).alarms == ()
    assert watch(acc, train_robust_acc=learned(100, 0.001, 1) + dip).alarms != ()


def test_recovery_takes_the_verdict_back_and_not_the_alarm() -> None:
    curve = overfit(60, 0.002, 0)
    before = watch(**curve)
    acc = curve["test_robust_acc"] + [0.6] * 8
    after = watch(acc, train_robust_acc=curve["train_robust_acc"] + [0.9] * 8)
    assert before.overfitting is True and after.overfitting is False
    assert after.alarm_epoch is not None and "recovered" in after.summary


def ended(robust: list[float], first_drop: int) -> int | None:
    """The epoch in which early stopping ends a run with this curve."""
    stop = EarlyStop("ro", [], first_drop)
    for number, value in enumerate(robust):
        rising = 0.3 + 0.005 * number
        told = stop.see(studies.epoch(number, val_robust_acc=value, val_robust_loss=2 - value, train_robust_acc=rising))
        if stop.ends:
            assert told.endswith("training ends here")
            return number
    return None


def test_an_alarm_before_the_learning_rate_drops_does_not_end_the_run() -> None:
    falls = [0.5 + 0.01 * min(k, 10) - 0.01 * max(0, k - 10) for k in range(40)]
    recovers = [*falls, *(0.7 - 0.01 * max(0, k - 5) for k in range(40))]
    early = ended(falls, 0)
    assert early is not None and early < 30
    assert ended(falls, 20) == 28  # the fall still lasts 8 epochs after the drop
    late = ended(recovers, 40)
    assert late is not None and 45 < late < 70


class Counted(list):
    """A list that counts the values that were read from it."""

    read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counted.read += len(found) if isinstance(key, slice) else 1
        return found

    def __iter__(self) -> Any:
        Counted.read += len(self)
        return super().__iter__()


@pytest.mark.parametrize("trains", [False, True])
def test_an_update_reads_no_more_values_in_a_long_run(trains: bool) -> None:
    curve = overfit(2000, 0.004, 0)
    monitor = Watch()
    for name, value in vars(monitor).items():
        if isinstance(value, list):
            setattr(monitor, name, Counted(value))
    reads = []
    for i, acc in enumerate(curve["test_robust_acc"]):
        Counted.read = 0
        train = curve["train_robust_acc"][i] if trains else None
        monitor.update(acc, robust_loss=curve["test_robust_loss"][i], train_robust_acc=train)
        reads.append(Counted.read)
    assert monitor.verdict().alarms and 0 < max(reads[1000:]) < 1.5 * max(reads[:200])


def test_missing_epochs_are_skipped() -> None:
    curve = CURVES["cifar10_wide__wideresnet_10"]
    acc: list[float | None] = list(curve.columns["test_robust_acc"])
    acc[3], acc[50], acc[104] = None, math.nan, None
    train: list[float | None] = [v if i % 2 else None for i, v in enumerate(curve.columns["train_robust_acc"])]
    verdict = watch(acc, train_robust_acc=train, test_robust_loss=curve.columns["test_robust_loss"])
    assert verdict.overfitting and 101 < verdict.alarm_epoch <= 112


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"test_robust_acc": [0.1, 0.2, 0.3]}, "3 usable values of 3; at least 8"),
        ({"test_robust_acc": [math.nan] * 20}, "0 usable values of 20; at least 8"),
        ({"test_robust_acc": [46.2] * 20}, "46.2 .* percentage, so divide it by 100"),
        ({"test_robust_acc": [0.4] * 20, "train_robust_acc": [40.0] * 20}, "train accuracy at epoch 0 is 40 .* percentage"),
        ({"test_robust_acc": [0.4] * 20, "test_robust_loss": [1.0] * 19}, "20 values and loss 19"),
        ({"test_robust_acc": [0.4] * 9, "epochs": [0, 1, 2, 3, 4, 4, 5, 6, 7]}, "epoch 4 follows epoch 4"),
        ({}, "neither test_robust_acc nor val_robust_acc"),
    ],
)
def test_bad_input_is_told_in_a_sentence(kwargs: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        watch(**kwargs)
