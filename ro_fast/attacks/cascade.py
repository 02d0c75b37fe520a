"""A sequence of attacks, each run on the samples that withstood the previous ones: those left at the end withstood them all."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ro_fast.attacks.active_set import Inputs, Stepper, survive
from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.any_step import Climb
from ro_fast.attacks.apgd import APGD, AutoClimb
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.pgd import PGD
from ro_fast.attacks.square import Search, Square

Attack = PGD | APGD | Square


@dataclass(frozen=True)
class Stage:
    """What one attack of a cascade did."""

    name: str
    tried: int  # samples it was run on
    robust: Tensor  # bool [N]: correct at every iterate of this attack and the previous ones
    work: int  # iterates judged: forward passes, each with an input gradient except for "square"
    seconds: float

    @property
    def broken(self) -> int:
        """Samples that this attack broke."""
        return self.tried - int(self.robust.sum())


def standard_attacks(
    eps: float, norm: str = "linf", *, steps: int = 100, restarts: int = 1, targets: int = 9, queries: int = 5000, seed: int = 0
) -> dict[str, Attack]:
    """APGD-CE, APGD-T and Square, as in AutoAttack; without its FAB, so this is *not* AutoAttack. No Square in L2.

    >>> list(standard_attacks(0.1)), list(standard_attacks(0.1, "l2"))
    (['apgd_ce', 'apgd_t', 'square'], ['apgd_ce', 'apgd_t'])
    """
    attacks: dict[str, Attack] = {
        "apgd_ce": APGD(eps, steps, norm, restarts),
        "apgd_t": APGD(eps, steps, norm, restarts, "dlr_targeted", targets),
    }
    if norm == "linf":
        attacks["square"] = Square(eps, queries, seed=seed)
    return attacks


def cascade(
    model: Callable[[Tensor], Any],  # [B, ...] -> logits [B, C], or what holds them
    inputs: Inputs,  # indices [B] -> natural inputs [B, ...] in [0, 1]
    y: Tensor,  # int64 [N]
    attacks: dict[str, Attack],
    *,
    batch_size: int = 512,
    seed: int = 0,
    done: Sequence[Stage] = (),
    on_stage: Callable[[Stage], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Stage]:
    """Runs the attacks in order, each on the samples that withstood every iterate of the previous ones.

    Within an attack, too, a broken sample leaves the batch at once and the next one takes its slot. Noise is a function of
    sample, attack and seed, so flags don't depend on the batch size, up to rounding.

    Args:
        model: left as it was found.
        inputs: natural inputs by index.
        y: classes.
        attacks: by name, cheapest first; :func:`standard_attacks` gives the usual ones.
        batch_size: slots processed together.
        seed: draws the noise of gradient attacks; Square has its own.
        done: the first stages, if they are already known.
        on_stage: called after each attack.
        on_progress: called with the name, the pass and the number of samples settled by this pass.

    Returns:
        "natural", then one stage per attack.

    Raises:
        ValueError: if the batch size is below 1, or a PGD has ``bn`` other than "eval".

    Source: Croce & Hein 2020 (arXiv 2003.01690), section 5.

    >>> x, y = torch.rand(9, 4), torch.arange(9) % 3
    >>> stages = cascade(torch.nn.Linear(4, 3), lambda i: x[i], y, {"pgd": PGD(0.1, 0.02, 5)})
    >>> [stage.name for stage in stages], bool((stages[1].robust <= stages[0].robust).all())
    (['natural', 'pgd'], True)
    """
    if batch_size < 1:
        raise ValueError(f"cascade: batch_size = {batch_size}; at least 1 is needed")
    for name, attack in attacks.items():
        if isinstance(attack, PGD) and attack.bn != "eval":
            raise ValueError(f"cascade: '{name}' has bn='{attack.bn}'; 'eval' is needed, as other modes mix samples of a batch")
    stages = list(done)
    with borrowed(model, "eval"), torch.no_grad():
        if not stages:
            output = next((attack.output for attack in attacks.values()), None)
            stages.append(_natural(model, inputs, y, batch_size, output))
            _tell(on_stage, stages)
        for name in list(attacks)[len(stages) - 1 :]:
            start, robust = time.perf_counter(), stages[-1].robust.clone()
            tried, work = int(robust.sum()), 0
            if tried:
                first = inputs(torch.zeros(1, dtype=torch.int64, device=y.device))
                stepper = _stepper(attacks[name], model, first, torch.Generator(y.device).manual_seed(seed))
                told = None if on_progress is None else functools.partial(on_progress, name)
                work = survive(stepper, inputs, y, robust, batch_size=batch_size, on_progress=told)
            stages.append(Stage(name, tried, robust, work, time.perf_counter() - start))
            _tell(on_stage, stages)
    return stages


def _natural(model: Callable[[Tensor], Any], inputs: Inputs, y: Tensor, batch_size: int, output: Output) -> Stage:
    start, right = time.perf_counter(), torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for index in torch.arange(len(y), device=y.device).split(batch_size):
        right[index] = logits_of(model(inputs(index)), output).argmax(1) == y[index]
    return Stage("natural", len(y), right, len(y), time.perf_counter() - start)


def _stepper(attack: Attack, model: Callable[[Tensor], Any], x: Tensor, generator: torch.Generator) -> Stepper:
    if isinstance(attack, PGD):
        return Climb(model, x, attack, generator)
    return AutoClimb(model, x, attack, generator) if isinstance(attack, APGD) else Search(model, x, attack)


def _tell(on_stage: Callable[[Stage], None] | None, stages: list[Stage]) -> None:
    if on_stage is not None:
        on_stage(stages[-1])
