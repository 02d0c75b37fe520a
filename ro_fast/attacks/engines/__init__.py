"""How PGD climbs: engines that take the same steps at different cost, one per file; :mod:`choose` decides which one runs."""

from __future__ import annotations

from ro_fast.attacks.engines.choose import AUTO, ENGINES, choose, explain, prepare, stepwise
from ro_fast.attacks.engines.engine import Climb, Gradient, Loss, Model, Plan, Start, climb_by

__all__ = [
    "AUTO",
    "ENGINES",
    "Climb",
    "Gradient",
    "Loss",
    "Model",
    "Plan",
    "Start",
    "choose",
    "climb_by",
    "explain",
    "prepare",
    "stepwise",
]
