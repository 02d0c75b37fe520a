"""The fused operators: a public function each, the same name in ``torch.ops.ro_fast``, several backends behind it."""

from __future__ import annotations

from ro_fast.ops.class_moments import ClassMoments, class_moments
from ro_fast.ops.pgd_init import pgd_init
from ro_fast.ops.pgd_step import pgd_step
from ro_fast.ops.small_loss import small_loss
from ro_fast.ops.weighted_cross_entropy import weighted_cross_entropy

OPS = {f.__name__: f for f in (pgd_step, pgd_init, weighted_cross_entropy, class_moments, small_loss)}

__all__ = ["OPS", "ClassMoments", *OPS]
