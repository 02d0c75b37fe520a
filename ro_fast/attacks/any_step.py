"""Robustness to every iterate of an attack, at the price of the samples that survive it.

A sample is broken by the first iterate that is misclassified: the natural input, a random start, or any step of any restart. It
leaves the batch there and then, and the next sample takes its slot, so that the batch keeps its shape and its use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.attacks import engines
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.pgd import PGD
from ro_fast.ops import pgd_init, pgd_step

_CHUNK = 1024  # samples whose noise is drawn at once; a constant, so that noise depends on the sample and not on the batch


@dataclass(frozen=True)
class AnyStep:
    """What :func:`any_step` found, and what it took."""

    natural: Tensor  # bool [N]: right at the natural input
    robust: Tensor  # bool [N]: right at every iterate
    forward: int  # samples that went through a forward
    input_grad: int  # samples that went through a forward and an input gradient

    @property
    def forwards(self) -> int:
        """The work in units of one sample's forward."""
        return self.forward + 2 * self.input_grad


@torch.no_grad()
def any_step(
    model: Callable[[Tensor], Tensor],
    inputs: Callable[[Tensor], Tensor],  # indices [B] -> natural inputs [B, ...] in [0, 1]
    y: Tensor,  # int64 [N]
    attack: PGD,
    *,
    batch_size: int = 512,
    eps: Tensor | None = None,  # [N], replaces the attack's radius
    seed: int = 0,
    drop: bool = True,
    check_every: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> AnyStep:
    """Tells which samples withstand every iterate of ``attack``: ``∀ restarts r, steps k: argmax f(x_k^r) = y``.

    Noise belongs to the sample: it is drawn in the order of indices from ``seed``, whatever the batches. The flags are those of
    a run that attacks every sample to the end (``drop=False``), up to what a batch's composition does to rounding.

    Args:
        model: [B, ...] -> logits [B, C]; left as it was found.
        inputs: gives natural inputs by index, so that stored bytes need not all be turned to numbers at once.
        y: classes.
        attack: a PGD with ``bn="eval"``; its generator and engine are not used.
        batch_size: slots that are worked on together.
        eps: radii by sample.
        seed: draws the noise.
        drop: False attacks every sample to the end.
        check_every: steps between the looks at which slots are free, each of which waits for the device.
        on_progress: called with the number of samples that are settled, after each look.

    Raises:
        ValueError: on a batch size or interval below 1, or ``bn`` other than "eval".

    Source: dropping broken samples between attacks is Croce & Hein 2020 (arXiv 2003.01690); here within one.

    >>> found = any_step(torch.nn.Linear(2, 2), lambda i: torch.rand(len(i), 2), torch.tensor([0, 1, 0]), PGD(0.0, 0.0, 2))
    >>> bool((found.robust <= found.natural).all())
    True
    """
    if batch_size < 1 or check_every < 1:
        raise ValueError(f"any_step: batch_size = {batch_size}, check_every = {check_every}; at least 1 is needed")
    if attack.bn != "eval":
        raise ValueError(f"any_step: the attack has bn='{attack.bn}'; in any mode but 'eval' samples depend on their batch")
    natural = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    indices = torch.arange(len(y), device=y.device)
    run: _Run | None = None
    with borrowed(model, "eval"):
        for index in indices.split(batch_size):
            x = inputs(index)
            run = run or _Run(model, x, attack, drop, check_every)
            natural[index] = run.logits(x).argmax(1) == y[index]
        robust = natural.clone()
        generator = torch.Generator(y.device).manual_seed(seed)
        for _ in range(attack.restarts if run is not None else 0):
            assert run is not None
            radii = attack.eps if eps is None else eps
            starts = _starts(inputs, robust if drop else torch.ones_like(robust), y, radii, attack, generator)
            run.climb(starts, robust, batch_size, on_progress)
    return AnyStep(natural, robust, len(y), run.input_grad if run is not None else 0)


@dataclass
class _Slots:
    """Samples under attack, one a row."""

    index: Tensor  # [B]
    x: Tensor
    x_adv: Tensor
    y: Tensor
    eps: Tensor  # [B]
    step: Tensor  # [B] steps taken

    def take(self, rows: Tensor | slice) -> _Slots:
        return _Slots(*(t[rows] for t in vars(self).values()))

    def put(self, rows: Tensor, other: _Slots) -> None:
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            mine[rows] = theirs


def _starts(
    inputs: Callable[[Tensor], Tensor], wanted: Tensor, y: Tensor, eps: float | Tensor, attack: PGD, generator: torch.Generator
) -> Iterator[_Slots]:
    """The starts of one restart by chunks, in the order of indices; noise is drawn for those too that are not wanted."""
    for index in torch.arange(len(y), device=y.device).split(_CHUNK):
        x = inputs(index)
        radii = torch.full((len(index),), eps, device=y.device) if not isinstance(eps, Tensor) else eps[index]
        radii = radii.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
        x_adv = x
        if attack.random_start:
            noise = torch.empty_like(x, memory_format=torch.contiguous_format)
            noise = noise.uniform_(-1, 1, generator=generator) if attack.norm == "linf" else noise.normal_(generator=generator)
            x_adv = pgd_init(x, radii, noise, norm=attack.norm)
        slots = _Slots(index, x, x_adv, y[index], radii, torch.zeros_like(index))
        yield slots.take(wanted[index].nonzero().squeeze(1))


class _Run:
    """The model made ready, and the loop over slots."""

    def __init__(self, model: Callable[[Tensor], Tensor], x: Tensor, attack: PGD, drop: bool, check_every: int) -> None:
        self.attack, self.drop, self.check_every = attack, drop, check_every
        self.input_grad = 0
        self._logits = x.new_empty(0)
        plan = attack.plan(model)
        engine = engines.stepwise(model, x, plan)
        self.logits, self._gradient = engine.functions(model, x, self._noting(plan.loss))

    def _noting(self, loss: engines.Loss) -> engines.Loss:
        """The loss, which leaves its logits behind: an iterate is judged by the forward that its gradient needs anyway."""

        def noting(logits: Tensor, y: Tensor) -> Tensor:
            self._logits = logits.detach()
            return loss(logits, y)

        return noting

    def climb(
        self, starts: Iterator[_Slots], robust: Tensor, batch_size: int, on_progress: Callable[[int], None] | None
    ) -> None:
        """Attacks all starts once, and clears the flag of each that breaks."""
        queue = _Queue(starts)
        slots = queue.next(batch_size)
        settled = 0
        while slots is not None:
            done = torch.zeros(len(slots.index), dtype=torch.bool, device=robust.device)
            for _ in range(self.check_every):
                self._advance(slots, done, robust)
            free = done.nonzero().squeeze(1)  # waits for the device
            settled += len(free)
            if on_progress is not None:
                on_progress(settled)
            fresh = queue.next(len(free)) if len(free) else None
            if fresh is not None:
                slots.put(free[: len(fresh.index)], fresh)
                free = free[len(fresh.index) :]
            if len(free):  # nothing is left to fill them with
                kept = torch.ones_like(done)
                kept[free] = False
                rows = kept.nonzero().squeeze(1)
                slots = slots.take(rows) if len(rows) else None

    def _advance(self, slots: _Slots, done: Tensor, robust: Tensor) -> None:
        """Judges every iterate and moves those on that go on; slots that are done stay as they are."""
        grad = self._gradient(slots.x_adv, slots.y)
        self.input_grad += len(done)
        broken = self._logits.argmax(1) != slots.y
        robust[slots.index] &= ~broken | done
        done |= slots.step >= self.attack.steps
        if self.drop:
            done |= broken
        alpha = slots.eps * (self.attack.alpha / self.attack.eps if self.attack.eps > 0 else 0.0)
        pgd_step(slots.x_adv, slots.x, grad, slots.eps, alpha, norm=self.attack.norm, active=~done, out=slots.x_adv)
        slots.step += ~done


class _Queue:
    """Hands out as many starts as are asked for, from chunks."""

    def __init__(self, chunks: Iterator[_Slots]) -> None:
        self._chunks = chunks
        self._chunk: _Slots | None = None
        self._given = 0  # of the chunk

    def next(self, count: int) -> _Slots | None:
        parts: list[_Slots] = []
        while count > 0:
            if self._chunk is None or self._given == len(self._chunk.index):
                self._chunk, self._given = next(self._chunks, None), 0
                if self._chunk is None:
                    break
                continue
            parts.append(self._chunk.take(slice(self._given, self._given + count)))
            self._given += len(parts[-1].index)
            count -= len(parts[-1].index)
        if not parts:
            return None
        return _Slots(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))
