"""Attacks on a changing set of samples: a broken sample leaves the batch, and the next one takes its slot.

An attack is a :class:`Stepper` whose state has one row per sample, so samples at different steps can share a batch. The batch
keeps its shape and stays full until no sample is left to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]  # of the samples under attack, one row each: "index", "step", "x_adv", and whatever the attack keeps
Inputs = Callable[[Tensor], Tensor]  # indices [B] -> natural inputs [B, ...] in [0, 1]

_CHUNK = 1024  # samples whose noise is drawn at once; a constant, so that noise depends on the sample and not on the batch


class Stepper(Protocol):
    """One attack, prepared for one model."""

    length: int  # iterates judged in each pass
    passes: int  # how often a sample is restarted: restarts, or targets

    def noise(self, x: Tensor) -> Tensor | None:
        """Draws the noise for the starts of these samples, [B, ...]; called for all samples in index order."""

    def start(self, index: Tensor, x: Tensor, y: Tensor, noise: Tensor | None, turn: int) -> State:
        """The state of samples before the first iterate of pass ``turn`` is judged."""

    def step(self, state: State) -> Tensor:
        """Judges the current iterates (bool [B], misclassified) and moves on to the next ones."""


def survive(
    stepper: Stepper,
    inputs: Inputs,
    y: Tensor,  # int64 [N]
    robust: Tensor,  # bool [N]: which samples to attack; cleared in place once a sample is broken
    *,
    batch_size: int,
    check_every: int = 1,
    drop: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Attacks the samples whose flag is set, pass after pass, and clears the flags of those broken by any iterate.

    Args:
        stepper: the attack.
        inputs: gives natural inputs by index.
        y: classes.
        robust: flags; later passes attack only samples whose flag is still set.
        batch_size: slots processed together.
        check_every: steps between checks for free slots; each check synchronises with the device.
        drop: False attacks every sample to the end, broken or not.
        on_progress: called after each check with the pass and the number of samples it has settled.

    Returns:
        The number of iterates judged, a measure of the work.
    """
    work = 0
    for turn in range(stepper.passes):
        wanted = robust.clone() if drop else torch.ones_like(robust)
        queue = _Queue(_starts(stepper, inputs, y, wanted, turn))
        settled, state = 0, queue.next(batch_size)
        while state is not None:
            for _ in range(check_every):
                over = state["step"] >= stepper.length
                work += len(over)
                broken = stepper.step(state)
                robust[state["index"]] &= ~broken | over
                state["step"] = state["step"] + 1
            done = state["step"] >= stepper.length
            if drop:
                done |= ~robust[state["index"]]
            free = done.nonzero().squeeze(1)  # synchronises with the device
            settled += len(free)
            if on_progress is not None:
                on_progress(turn, settled)
            state = _refill(state, free, queue)
    return work


def in_one_batch(
    stepper: Stepper,
    x: Tensor,  # [N, ...] natural inputs
    y: Tensor,  # int64 [N]
    drawn: Tensor | None = None,  # noise [passes, N, ...]; None draws it
) -> Tensor:
    """Runs every pass on one batch and returns, for each sample, its first misclassified iterate, or else that of greatest loss.

    Needs a stepper that keeps "x_best" and "best_loss". Never synchronises with the device.
    """
    index = torch.arange(len(y), device=y.device)
    x_adv, best_loss = x, x.new_full((len(y),), -torch.inf, dtype=torch.float64)
    found = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for turn in range(stepper.passes):
        state = stepper.start(index, x, y, stepper.noise(x) if drawn is None else drawn[turn], turn)
        for _ in range(stepper.length):
            iterate = state["x_adv"]
            first = stepper.step(state) & ~found
            x_adv, found = torch.where(like_rows(first, x), iterate, x_adv), found | first
            state["step"] = state["step"] + 1
        better = ~found & (state["best_loss"] > best_loss)
        x_adv = torch.where(like_rows(better, x), state["x_best"], x_adv)
        best_loss = torch.where(better, state["best_loss"].double(), best_loss)
    return x_adv


def like_rows(values: Tensor, x: Tensor) -> Tensor:
    """[N] as [N, 1, ...], to broadcast against inputs [N, ...]."""
    return values.view(-1, *[1] * (x.dim() - 1))


def _starts(stepper: Stepper, inputs: Inputs, y: Tensor, wanted: Tensor, turn: int) -> Iterator[State]:
    """The starts of one pass in chunks, in index order; noise is also drawn for samples that are not attacked."""
    for index in torch.arange(len(y), device=y.device).split(_CHUNK):
        x = inputs(index)
        noise, rows = stepper.noise(x), wanted[index].nonzero().squeeze(1)
        if len(rows):
            yield stepper.start(index[rows], x[rows], y[index[rows]], None if noise is None else noise[rows], turn)


def _refill(state: State, free: Tensor, queue: _Queue) -> State | None:
    """Puts new samples into free slots and closes slots for which there are none. None when no slot is left."""
    fresh = queue.next(len(free)) if len(free) else None
    if fresh is not None:
        taken = free[: len(fresh["index"])]
        for name, column in state.items():
            column[taken] = fresh[name]
        free = free[len(taken) :]
    if not len(free):
        return state
    kept = torch.ones(len(state["index"]), dtype=torch.bool, device=free.device)
    kept[free] = False
    rows = kept.nonzero().squeeze(1)
    return {name: column[rows] for name, column in state.items()} if len(rows) else None


class _Queue:
    """Hands out as many starts as requested, from chunks."""

    def __init__(self, chunks: Iterator[State]) -> None:
        self._chunks = chunks
        self._chunk: State | None = None
        self._given = 0  # of the chunk

    def next(self, count: int) -> State | None:
        parts: list[State] = []
        while count > 0:
            if self._chunk is None or self._given == len(self._chunk["index"]):
                self._chunk, self._given = next(self._chunks, None), 0
                if self._chunk is None:
                    break
                continue
            parts.append({name: column[self._given : self._given + count] for name, column in self._chunk.items()})
            self._given += len(parts[-1]["index"])
            count -= len(parts[-1]["index"])
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else None
