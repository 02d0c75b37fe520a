"""How fast this machine trains and scores the given model, measured on a few images."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass

import torch

from ro_fast.config import TrainConfig
from ro_fast.data import ImageData
from ro_fast.environment import use_threads
from ro_fast.training.trainer import Run

IMAGES = 256


@dataclass(frozen=True)
class Speed:
    """Seconds per image in one run, and how many runs go in parallel."""

    train: float  # attacked and trained on once
    judge: float  # scored once, naturally and attacked
    jobs: int


def measure_speed(config: TrainConfig, data: ImageData, device: torch.device, jobs: int, threads: int | None) -> Speed:
    """Trains one epoch on up to 256 images and scores as many, after a warm-up; leaves nothing behind."""
    use_threads(threads)
    count = min(IMAGES, len(data.x_train))
    chosen = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(config.seed))[:count]
    few = dataclasses.replace(
        data,
        x_train=data.x_train[chosen],
        y_train=data.y_train[chosen],
        rows_train=data.rows_train[chosen.numpy()],
        redrawn=None,
        files_train=None,
    ).to(device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(dataclasses.replace(config, out=folder), few, device)
        seconds: list[tuple[float, float]] = []
        for _ in range(2):
            start = time.perf_counter()
            run.train_epoch()
            trained = time.perf_counter()
            run.score(few.x_train, few.y_train)
            seconds.append((trained - start, time.perf_counter() - trained))
    train, judge = seconds[-1]
    return Speed(train / count, judge / count, jobs)
