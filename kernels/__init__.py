"""The Triton backend: one file an operator, each a kernel and its launcher, with torch and triton as all it imports.

A file can be taken into another project together with ``_block.py``; ``pgd_mlp.py`` also takes ``pgd_init.py``.

A launcher bears the name of its slot in ``torch.ops.ro_fast_native`` and takes the slot's arguments: contiguous or
channels_last tensors that the public operator has checked.

The letters: ``p_x`` is a pointer, ``o_x`` an offset, ``m_x`` a mask, ``b_x`` a block of values, its shape in the trailing
comment; N samples, D values a sample, C classes; capitals of tl.constexpr name block sizes. Numbers come as ``tl.float64``
(Triton takes a Python float for float32 otherwise) and are cast to DTYPE, the dtype computed in.
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
from .pgd_step import pgd_step, pgd_step_input
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
    "pgd_step_input",
    "weighted_cross_entropy",
    "weighted_cross_entropy_backward",
    "weighted_kl",
    "weighted_kl_backward",
]
