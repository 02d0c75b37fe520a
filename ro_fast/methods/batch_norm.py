"""BatchNorm's running statistics in a training step: frozen while the model is only inspected, or updated as by two forwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from ro_fast.ops._torch_private import AnyBatchNorm


def _norms(model: nn.Module) -> list[AnyBatchNorm]:
    return [m for m in model.modules() if isinstance(m, AnyBatchNorm) and m.track_running_stats]


def have_momentum(model: nn.Module) -> bool:
    """Whether all running statistics are exponential averages rather than means over all batches."""
    return all(m.momentum is not None for m in _norms(model))


@contextlib.contextmanager
def running_statistics_held(model: nn.Module) -> Iterator[None]:
    """Lets BatchNorm use the batch's statistics, as in training, without updating its running ones."""
    norms = _norms(model)
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


@contextlib.contextmanager
def statistics_moved_twice(model: nn.Module) -> Iterator[None]:
    """Makes one forward update the running statistics r as two do: r ← (1 − m)²·r + (1 − (1 − m)²)·batch."""
    norms = _norms(model)
    momenta = [m.momentum for m in norms]
    for m in norms:
        assert m.momentum is not None and m.num_batches_tracked is not None
        m.momentum = 1 - (1 - m.momentum) ** 2
        m.num_batches_tracked.add_(1)
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
