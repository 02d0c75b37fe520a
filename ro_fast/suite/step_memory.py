"""Memory taken by a training step's tensors alone, so that methods can be compared whatever ran before them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ro_fast.methods.step import Work

if TYPE_CHECKING:
    from ro_fast.training.trainer import Run


def step_memory_mb(run: Run) -> float:
    """The peak memory of one training step's tensors, including model, average and optimiser, in 2²⁰ bytes.

    A step on the first samples is measured after a preceding one, in which buffers reused later are created. The run's state
    changes, so the run must be discarded afterwards. A process's peak, as in metrics, is not limited to one run.
    """
    run.model.train()
    if run.averaging is not None:
        run.averaging.begin(run.model, run.epoch)
    index = torch.arange(min(run.config.trainer.batch_size, len(run.data.y_train)), device=run.device)
    _one_step(run, index)
    standing = _standing_bytes(run)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
        torch.cuda.reset_peak_memory_stats(run.device)
        before = torch.cuda.memory_allocated(run.device)
        _one_step(run, index)
        return (standing + torch.cuda.max_memory_allocated(run.device) - before) / 2**20
    # The profiler records a release only if it saw the allocation: the first step measured, which releases the gradients of
    # one that was not, would count them twice. Of the others take the largest: Python's collector may release memory in one.
    return (standing + max([_watched_bytes(run, index) for _ in range(4)][1:])) / 2**20


def _watched_bytes(run: Run, index: torch.Tensor) -> int:
    """The peak memory of one step's tensors on a CPU, whose allocator keeps no such count."""
    from torch.profiler import ProfilerActivity, profile

    with _without_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        _one_step(run, index)
    now = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """The profiler's library prints a banner there, whatever its log level, which would break the progress display."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _one_step(run: Run, index: torch.Tensor) -> None:
    run.train_step(run.step(index, run.data.x_train[index], Work()), run.config.trainer.lr)


def _standing_bytes(run: Run) -> int:
    """Memory that a run keeps from step to step besides the data: weights, gradients, averages, teachers, optimiser state."""
    models = [run.model, *run.kept.teachers.values()]
    if run.averaging is not None and run.averaging.model is not None:
        models.append(run.averaging.model)
    tensors = [t for model in models for t in (*model.parameters(), *model.buffers())]
    tensors += [p.grad for p in run.model.parameters() if p.grad is not None]
    tensors += [t for state in run.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    tensors += list(run.kept.state.values())
    return sum(t.numel() * t.element_size() for t in tensors)
