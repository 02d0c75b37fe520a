"""Attacks: they find adversarial inputs and leave the model exactly as it was found."""

from __future__ import annotations

from ro_fast.attacks.any_step import AnyStep, any_step
from ro_fast.attacks.apgd import APGD
from ro_fast.attacks.cascade import Stage, cascade, standard_attacks
from ro_fast.attacks.normalised import normalised
from ro_fast.attacks.pgd import PGD
from ro_fast.attacks.square import Square

__all__ = ["PGD", "APGD", "Square", "AnyStep", "Stage", "any_step", "cascade", "normalised", "standard_attacks"]
