"""Set before any test module is imported: Triton's interpreter if there is no GPU, and hypothesis's profile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

# Small tests gain nothing from threads, and two processes that each start all of them lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are defined

try:
    import hypothesis
except ImportError:  # the tests on a GPU run where little is installed
    pass
else:
    hypothesis.settings.register_profile("ro_fast", deadline=None, max_examples=20, derandomize=True, database=None)
    hypothesis.settings.load_profile("ro_fast")


@pytest.fixture(scope="module")
def nan_in_new_memory() -> Iterator[None]:
    """Makes torch.empty return NaN, so that an operator that leaves a place unwritten is detected."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def robust_digits() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A small network after seconds of adversarial training on digits, robust on two thirds at 0.12; test images and labels.

    Trained in float64, where rounding is far below what would change the signs in an attack, so every processor, number of
    threads and engine trains the same network.
    """
    from ro_fast.attacks import PGD
    from ro_fast.config import DataConfig, ModelConfig
    from ro_fast.data import load_data
    from ro_fast.models import build_model

    data = load_data(DataConfig(name="digits"))
    torch.manual_seed(0)
    shape = (int(data.x_train.shape[1]), int(data.x_train.shape[2]), int(data.x_train.shape[3]))
    model = build_model(ModelConfig(width=8), shape, data.num_classes, *data.mean_std()).double()
    x, y = data.images(data.x_train).double(), data.y_train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    draw = torch.Generator().manual_seed(0)
    attack = PGD(eps=0.1, alpha=0.05, steps=3, generator=draw)
    for lr in (0.2, 0.2, 0.02, 0.002):
        optimizer.param_groups[0]["lr"] = lr
        for index in torch.randperm(len(y), generator=draw).split(64):
            x_adv = attack(model, x[index], y[index])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model.train()(x_adv), y[index]).backward()
            optimizer.step()
    return model.float().eval(), data.images(data.x_test), data.y_test


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; tests that need it are skipped where it can't be had."""
    from helpers.browser import chromium

    with chromium() as started:
        yield started
