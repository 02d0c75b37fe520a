"""Suites made of numbers: epochs, runs and arms that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ro_fast.cli import compose
from ro_fast.config import ArmConfig, SuiteConfig
from ro_fast.findings.outcomes import Arm, Seed, summarise_arms
from ro_fast.storage.epochs import Epoch

EPOCH = {
    **dict.fromkeys(("lr", "train_loss", "train_robust_loss", "test_robust_loss"), 1.0),
    **dict.fromkeys(("train_robust_acc", "val_robust_acc", "test_robust_acc", "test_acc", "small_loss_share"), 0.5),
    **dict.fromkeys(("gflop", "train_seconds", "seconds", "peak_mb"), 1.0),
}
SEED = {"best_epoch": 0, **dict.fromkeys(("best_robust_acc", "last_robust_acc", "last_natural_acc"), 0.9), "ro_gap": 0.0}


def factors() -> SuiteConfig:
    """The default suite."""
    suite: SuiteConfig = compose("ablate", []).suite
    return suite


def epoch(number: int, **values: float | None) -> Epoch:
    """An epoch; values not given don't matter."""
    return Epoch(epoch=number, **(EPOCH | values))


def run(number: int, **values: object) -> Seed:
    """A run of an arm; values not given don't matter."""
    return Seed(seed=number, **(SEED | values))


def arms_of(runs: Mapping[str, Sequence[Seed]], configured: Sequence[ArmConfig] = ()) -> list[Arm]:
    """Arms with these runs; if they are in a suite's configuration, it describes them."""
    known = {arm.name: arm for arm in configured}
    return summarise_arms([known.get(name, ArmConfig(name)) for name in runs], runs)
