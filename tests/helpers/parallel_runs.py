"""Runs for tests of several processes, also as a script that torchrun starts: ``parallel_runs.py EPOCHS FOLDER [AFTER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ro_fast.config import TrainConfig, changed
from ro_fast.training.trainer import train

# 199 training images, so that no batch divides by two or four, and some are smaller than four.
COMMON = {"data.name": "digits", "data.train_size": 199, "data.test_size": 61, "model.width": 4, "attack.steps": 2}
COMMON |= {"trainer.epochs": 4, "trainer.batch_size": 33, "trainer.eval_batch_size": 40, "device": "cpu"}
RUNS = {
    "plain": {},
    "attacked in train mode": {"attack.bn": "train", "attack.restarts": 2},
    "masks by quantile": {"small_loss.unit": "quantile", "small_loss.value": 0.4, "method": {"name": "random_removal"}},
    "trades with awp": {"method": {"name": "baseline", "objective": "trades", "weight_perturbation": "awp", "averaging": "ema"}},
    "mixup": {"method": {"name": "baseline", "inputs": "mixup", "l1": 1e-4}},
}


def run(name: str, epochs: int, folder: Path, after: Path | None = None) -> None:
    """Trains a run of that name in float64, from the last state of the same run in another folder if one is given."""
    torch.set_default_dtype(torch.float64)
    values = {**COMMON, **RUNS[name], "trainer.stop_after": epochs, "out": str(folder / name)}
    train(changed(TrainConfig(threads=1), values), prefix=None if after is None else after / name)


if __name__ == "__main__":
    for name in RUNS:
        run(name, int(sys.argv[1]), *map(Path, sys.argv[2:]))
