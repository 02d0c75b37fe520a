"""The Triton backend: one file per operator, each with a kernel and its launcher, importing only torch and triton.

A file can be copied into another project together with ``_block.py``; ``pgd_mlp.py`` also needs ``pgd_init.py``.

A launcher has the name of its slot in ``torch.ops.ro_fast_native`` and takes the slot's arguments: contiguous or
channels_last tensors that the public operator has checked.

Naming: ``p_x`` is a pointer, ``o_x`` an offset, ``m_x`` a mask, ``b_x`` a block of values with its shape in the trailing
comment; N samples, D values per sample, C classes; capitals of tl.constexpr are block sizes. Numbers are passed as
``tl.float64`` (Triton otherwise takes a Python float for float32) and cast to DTYPE, the compute dtype.
"""

from __future__ import annotations

if __name__ == "kernels":
    raise ImportError("this folder is the package ro_fast.kernels; install ro_fast and import it by that name")

try:
    import triton  # noqa: F401
except ImportError as error:
    raise ImportError("triton is not installed") from error

from .affine_relu import affine_relu, affine_relu_backward
from .class_moments import class_moments
from .logit_losses import (
    boosted_cross_entropy,
    boosted_cross_entropy_backward,
    dlr_loss,
    dlr_loss_backward,
    margin_loss,
    margin_loss_backward,
)
from .pgd_init import pgd_init
from .pgd_mlp import pgd_mlp
from .pgd_step import pgd_step
from .weighted_cross_entropy import weighted_cross_entropy, weighted_cross_entropy_backward
from .weighted_kl import weighted_kl, weighted_kl_backward

__all__ = [
    "affine_relu",
    "affine_relu_backward",
    "boosted_cross_entropy",
    "boosted_cross_entropy_backward",
    "class_moments",
    "dlr_loss",
    "dlr_loss_backward",
    "margin_loss",
    "margin_loss_backward",
    "pgd_init",
    "pgd_mlp",
    "pgd_step",
    "weighted_cross_entropy",
    "weighted_cross_entropy_backward",
    "weighted_kl",
    "weighted_kl_backward",
]
