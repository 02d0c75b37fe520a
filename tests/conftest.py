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
