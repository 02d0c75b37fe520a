"""The fused operators: one public function each, with the same name in ``torch.ops.ro_fast`` and several backends behind it."""

from __future__ import annotations

from ro_fast.ops.affine_relu import affine_relu, affine_relu_backward
from ro_fast.ops.class_moments import ClassMoments, class_moments
from ro_fast.ops.logit_losses import boosted_cross_entropy, dlr_loss, margin_loss
from ro_fast.ops.pgd_init import pgd_init
from ro_fast.ops.pgd_mlp import pgd_mlp
from ro_fast.ops.pgd_step import pgd_step
from ro_fast.ops.weighted_cross_entropy import weighted_cross_entropy
from ro_fast.ops.weighted_kl import weighted_kl
from ro_fast.ops.winograd_conv import winograd_conv, winograd_weights

OPS = {
    f.__name__: f
    for f in (
        pgd_step,
        pgd_init,
        pgd_mlp,
        weighted_cross_entropy,
        weighted_kl,
        boosted_cross_entropy,
        margin_loss,
        dlr_loss,
        class_moments,
        affine_relu,
        affine_relu_backward,
        winograd_conv,
    )
}

__all__ = ["OPS", "ClassMoments", "winograd_weights", *OPS]
