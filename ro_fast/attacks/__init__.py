"""Attacks: they find adversarial inputs and leave the model exactly as it was found."""

from __future__ import annotations

from ro_fast.attacks.any_step import AnyStep, any_step
from ro_fast.attacks.pgd import PGD

__all__ = ["PGD", "AnyStep", "any_step"]
