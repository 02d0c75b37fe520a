"""How hard an evaluation tries, by name, and how long that takes at most."""

from __future__ import annotations

import time
from dataclasses import dataclass

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
    climb = GRADIENT * (settings.apgd_steps + 1) * settings.restarts
    first = GRADIENT * (settings.steps + 1)
    found = {"pgd": first, "cw": first, "apgd_ce": climb, "apgd_t": climb * min(settings.targets, classes - 1)}
    return found | ({"square": settings.queries} if norm == "linf" else {})


def seconds_per_forward(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str) -> float:
    """Seconds per sample and forward, measured on three steps of PGD on one batch, after a warm-up."""
    attack, seconds = PGD(eps, eps / 4, 3, norm), 0.0
    with borrowed(model, "eval"):
        for _ in range(2):
            start = time.perf_counter()
            attack(model, x, y).sum().item()
            seconds = time.perf_counter() - start
    return seconds / (len(x) * GRADIENT * 3)
