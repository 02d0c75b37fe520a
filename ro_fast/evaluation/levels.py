"""How hard an evaluation tries, by name, and how long that takes at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.pgd import PGD

GRADIENT = 3  # forwards that an input gradient with its forward costs, roughly


@dataclass(frozen=True)
class Settings:
    """How hard to try; the defaults of the cascade are AutoAttack's."""

    steps: int = 20  # of PGD and CW, with step length eps / 4
    apgd_steps: int = 100
    restarts: int = 1  # of APGD
    targets: int = 9  # classes that APGD-T targets
    queries: int = 5000  # of Square
    batch_size: int = 512
    masking: bool = True  # look for gradient masking
    seed: int = 0


LEVELS = {
    "quick": Settings(steps=10, apgd_steps=20, targets=2, queries=100),
    "standard": Settings(steps=20, apgd_steps=50, targets=5, queries=1000),
    "full": Settings(),
}


def work(settings: Settings, classes: int, norm: str = "linf") -> dict[str, int]:
    """Forwards per sample by attack, if none breaks the sample; a gradient counts as three."""
    found = {name: GRADIENT * count for name, count in _gradients(settings, classes).items()}
    return found | ({"square": settings.queries} if norm == "linf" else {})


def _gradients(s: Settings, classes: int) -> dict[str, int]:
    climb = (s.apgd_steps + 1) * s.restarts
    return {"pgd": s.steps + 1, "cw": s.steps + 1, "apgd_ce": climb, "apgd_t": climb * min(s.targets, classes - 1)}


@dataclass(frozen=True)
class Pace:
    """Seconds per sample on this machine."""

    gradient: float  # an iterate of a gradient attack
    forward: float

    def at_most(self, settings: Settings, samples: int, classes: int, norm: str) -> float:
        """Seconds of an evaluation if no sample is broken; the probes for gradient masking come on top."""
        gradients = sum(_gradients(settings, classes).values())
        return samples * (gradients * self.gradient + (settings.queries * self.forward if norm == "linf" else 0))


def measure_pace(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str) -> Pace:
    """The pace on one batch, after a warm-up."""
    attack = PGD(eps, eps / 4, 10, norm)

    def seconds(run: Callable[[], Tensor]) -> float:
        for _ in range(2):
            start = time.perf_counter()
            run().sum().item()
        return time.perf_counter() - start

    with borrowed(model, "eval"), torch.no_grad():
        return Pace(seconds(lambda: attack(model, x, y)) / (attack.steps * len(x)), seconds(lambda: model(x)) / len(x))
