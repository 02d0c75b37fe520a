"""Robustness to every iterate of an attack, at the cost of the surviving samples only.

A sample is broken by the first misclassified iterate: the natural input, a random start, or any step of any restart. It then
leaves the batch immediately: :mod:`ro_fast.attacks.active_set`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.attacks import engines
from ro_fast.attacks.active_set import Inputs, State, survive
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.pgd import PGD


@dataclass(frozen=True)
class AnyStep:
    """What :func:`any_step` found, and what it cost."""

    natural: Tensor  # bool [N]: correct at the natural input
    robust: Tensor  # bool [N]: correct at every iterate
    forward: int  # forward passes, counted in samples
    input_grad: int  # forward passes with an input gradient, counted in samples

    @property
    def forwards(self) -> int:
        """The work in units of one sample's forward pass."""
        return self.forward + 2 * self.input_grad


@torch.no_grad()
def any_step(
    model: Callable[[Tensor], Tensor],
    inputs: Inputs,  # indices [B] -> natural inputs [B, ...] in [0, 1]
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
    """Determines which samples withstand every iterate of ``attack``: ``∀ restarts r, steps k: argmax f(x_k^r) = y``.

    Noise belongs to the sample: it is drawn in index order from ``seed``, regardless of batches. The flags equal those of
    a run that attacks every sample to the end (``drop=False``), up to rounding that depends on the composition of batches.

    Args:
        model: [B, ...] -> logits [B, C]; left as it was found.
        inputs: gives natural inputs by index, so that stored bytes need not all be converted to floats at once.
        y: classes.
        attack: a PGD with ``bn="eval"``; its generator and engine are not used.
        batch_size: slots processed together.
        eps: radii per sample.
        seed: draws the noise.
        drop: False attacks every sample to the end.
        check_every: steps between checks for free slots; each check synchronises with the device.
        on_progress: called after each check with the number of settled samples.

    Raises:
        ValueError: if the batch size or interval is below 1, or ``bn`` is not "eval".

    Source: dropping broken samples between attacks is from Croce & Hein 2020 (arXiv 2003.01690); here it happens within one.

    >>> found = any_step(torch.nn.Linear(2, 2), lambda i: torch.rand(len(i), 2), torch.tensor([0, 1, 0]), PGD(0.0, 0.0, 2))
    >>> bool((found.robust <= found.natural).all())
    True
    """
    if batch_size < 1 or check_every < 1:
        raise ValueError(f"any_step: batch_size = {batch_size}, check_every = {check_every}; at least 1 is needed")
    if attack.bn != "eval":
        raise ValueError(f"any_step: the attack has bn='{attack.bn}'; 'eval' is needed, as other modes mix samples of a batch")
    indices = torch.arange(len(y), device=y.device)
    generator = torch.Generator(y.device).manual_seed(seed)
    natural = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    climb: Climb | None = None
    work = 0
    with borrowed(model, "eval"):
        for index in indices.split(batch_size):
            x = inputs(index)
            climb = climb or Climb(model, x, attack, generator, eps)
            natural[index] = climb.logits(x).argmax(1) == y[index]
        robust = natural.clone()
        if climb is not None:
            told = None if on_progress is None else lambda turn, settled: on_progress(settled)
            work = survive(climb, inputs, y, robust, batch_size=batch_size, check_every=check_every, drop=drop, on_progress=told)
    return AnyStep(natural, robust, len(y), work)


class Climb:
    """PGD as steps on a changing set of samples; the model is in the mode in which it is attacked."""

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        x: Tensor,
        attack: PGD,
        generator: torch.Generator,
        eps: Tensor | None = None,  # [N], replaces the attack's radius
    ) -> None:
        self.attack, self.generator, self.eps = attack, generator, eps
        self.box, self._own, length = attack.ball()
        if eps is not None and (self.box.eps or self.box.alpha):
            raise ValueError("any_step: eps= can't replace per-channel radii or step sizes")
        self._share = length / self._own if self._own > 0 else 0.0  # fraction of the radius per step
        self.length, self.passes = attack.steps + 1, attack.restarts
        self._logits = x.new_empty(0)
        plan = attack.plan(model)
        engine = engines.stepwise(model, x, plan)
        self.logits, self._gradient = engine.functions(model, x, plan, self._noting(plan.loss))

    def _noting(self, loss: engines.Loss) -> engines.Loss:
        """The loss; also stores its logits, since an iterate is judged by the forward pass that its gradient needs anyway."""

        def noting(logits: Tensor, y: Tensor) -> Tensor:
            self._logits = logits.detach()
            return loss(logits, y)

        return noting

    def noise(self, x: Tensor) -> Tensor | None:
        """Uniform for L∞, normal for L2; None if the attack starts at the natural input."""
        if not self.attack.random_start:
            return None
        return draw_noise(x, "l2" if self.attack.spread else self.attack.norm, self.generator)

    def start(self, index: Tensor, x: Tensor, y: Tensor, noise: Tensor | None, turn: int) -> State:
        """A random point of the ball, or its centre."""
        x = self.box.check("PGD", x)
        eps = radii(self._own if self.eps is None else self.eps[index], x)
        if noise is None:
            x_adv = x.clone()
        else:
            x_adv = x + self.attack.spread * noise if self.attack.spread else self.box.start(x, eps, noise)
        return {"index": index, "step": torch.zeros_like(index), "x": x, "x_adv": x_adv, "y": y, "eps": eps}

    def step(self, state: State) -> Tensor:
        """One step of PGD from the current iterates."""
        x_adv, eps = state["x_adv"], state["eps"]
        grad = self._gradient(x_adv, state["y"])
        self.box.step(x_adv, state["x"], grad, eps, eps * self._share, out=x_adv)
        return self._logits.argmax(1) != state["y"]


def draw_noise(x: Tensor, norm: str, generator: torch.Generator | None) -> Tensor:
    """The noise for a random start of inputs like ``x``: uniform(−1, 1) for L∞, normal for L2."""
    noise = torch.empty_like(x, memory_format=torch.contiguous_format)
    return noise.uniform_(-1, 1, generator=generator) if norm == "linf" else noise.normal_(generator=generator)


def radii(eps: float | Tensor, x: Tensor) -> Tensor:
    """One radius per sample, [N], in the dtype in which steps are computed."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return eps.to(dtype) if isinstance(eps, Tensor) else torch.full((len(x),), eps, device=x.device, dtype=dtype)
