"""Set before any test module is imported: Triton's interpreter where there is no GPU, and hypothesis's profile."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Small tests gain nothing from threads, and two processes that each spin up all of them lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are defined

try:
    import hypothesis
except ImportError:  # the tests of a GPU run where little is installed
    pass
else:
    hypothesis.settings.register_profile("ro_fast", deadline=None, max_examples=20, derandomize=True, database=None)
    hypothesis.settings.load_profile("ro_fast")


@pytest.fixture(scope="module")
def nan_in_new_memory() -> Iterator[None]:
    """torch.empty gives NaN, so that an operator that leaves a place unwritten is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def robust_digits() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A small network after seconds of adversarial training on digits, robust on two thirds at 0.12; test images and labels."""
    from ro_fast.config import TrainConfig, changed
    from ro_fast.data import load_data
    from ro_fast.training.trainer import Run

    settings = {"data.name": "digits", "data.eps": 0.1, "model.width": 8, "attack.steps": 3, "attack.alpha": 0.05}
    settings |= {"trainer.epochs": 4, "trainer.lr": 0.2, "trainer.batch_size": 64}
    config = changed(TrainConfig(), settings)
    run = Run(config, load_data(config.data), torch.device("cpu"))
    for run.epoch in range(config.trainer.epochs):
        run.train_epoch()
    return run.model.eval(), run.data.images(run.data.x_test), run.data.y_test
