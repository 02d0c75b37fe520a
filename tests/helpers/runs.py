"""A run of a second, and which of its metrics should repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ro_fast.config import TrainConfig, changed
from ro_fast.storage.epochs import Epoch


def small(out: Path, **changes: object) -> TrainConfig:
    """A run of a second: 200 digits, a narrow network."""
    config = changed(TrainConfig(out=str(out), threads=1), {"data.train_size": 200, "data.test_size": 100, "data.eps": 0.05})
    config = changed(config, {"data.label_noise": 0.2, "model.width": 8, "attack.steps": 2})
    config = changed(config, {"trainer.epochs": 4, "trainer.batch_size": 32})
    return changed(config, {key.replace("__", "."): value for key, value in changes.items()})


def without_seconds(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0, train_seconds=0.0, peak_mb=0.0) for epoch in history]
