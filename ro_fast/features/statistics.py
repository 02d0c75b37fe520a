"""Feature statistics that compare representations: linear CKA, streaming, and the effective rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.ops import ClassMoments

_CHUNK = 1024  # rows whose float64 copies are in memory at once


@dataclass(frozen=True)
class LinearCKA:
    """Linear centred kernel alignment of two representations of the same samples, accumulated batch by batch.

    ``CKA = ‖Σ_ab‖²_F / (‖Σ_aa‖_F · ‖Σ_bb‖_F)`` with the centred cross-products ``Σ_ab = Σ_n (a_n − ā)(b_n − b̄)ᵀ``, which equals
    the Gram form ``⟨K_a, K_b⟩ / (‖K_a‖·‖K_b‖)`` without its N×N matrices: both features side by side form one class, whose
    scatter holds all three blocks. Source: Kornblith et al. 2019 (arXiv 1905.00414), eq. 8.

    >>> a = torch.randn(50, 4)
    >>> cka = LinearCKA.empty(4, 4).update(a[:20], 3 * a[:20]).update(a[20:], 3 * a[20:])
    >>> round(cka.value.item(), 6)
    1.0
    """

    moments: ClassMoments  # of [a, b], one class
    split: int  # D1

    @classmethod
    def empty(cls, d1: int, d2: int, device: torch.device | str | None = None) -> LinearCKA:
        """With no samples yet, for features of D1 and D2 values."""
        return cls(ClassMoments.empty(1, d1 + d2, covariance=True, device=device), d1)

    def update(
        self,
        a: Tensor,  # [N, D1]
        b: Tensor,  # [N, D2]
    ) -> LinearCKA:
        """Adds a batch in place; returns itself.

        Raises:
            ValueError: if the sizes differ from those it was created for, or the batches differ in length.
        """
        d2 = self.moments.mean.shape[1] - self.split
        if a.dim() != 2 or b.dim() != 2 or len(a) != len(b) or (a.shape[1], b.shape[1]) != (self.split, d2):
            raise ValueError(
                f"LinearCKA.update: features are {list(a.shape)} and {list(b.shape)}; [N, {self.split}] and [N, {d2}] are needed"
            )
        dtype = torch.promote_types(a.dtype, b.dtype)
        for rows_a, rows_b in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True):
            rows = torch.cat([rows_a.to(dtype), rows_b.to(dtype)], 1)
            self.moments.update(rows, rows.new_zeros(len(rows), dtype=torch.int64))
        return self

    @property
    def value(self) -> Tensor:
        """The alignment in [0, 1], a float64 scalar; NaN if a representation does not vary."""
        assert self.moments.scatter is not None
        both, d = self.moments.scatter[0], self.split
        return both[:d, d:].square().sum() / (both[:d, :d].norm() * both[d:, d:].norm())


def linear_cka(
    a: Tensor,  # [N, D1]
    b: Tensor,  # [N, D2]
) -> Tensor:
    """Linear CKA of two representations of the same samples, in memory that does not grow with N: see :class:`LinearCKA`.

    Args:
        a, b: features [N, D1] and [N, D2], float32, bfloat16 or float64; summed in float64.

    Returns:
        A float64 scalar in [0, 1]; NaN if one of them does not vary. Never synchronises with the device.

    Raises:
        ValueError, TypeError: on shapes or dtypes that don't fit.

    Deterministic.

    >>> a = torch.randn(30, 5)
    >>> q, _ = torch.linalg.qr(torch.randn(5, 5))
    >>> round(linear_cka(a, a @ q).item(), 5)
    1.0
    """
    if a.dim() != 2 or b.dim() != 2 or len(a) != len(b):
        raise ValueError(f"linear_cka: features are {list(a.shape)} and {list(b.shape)}; [N, D1] and [N, D2] are needed")
    return LinearCKA.empty(a.shape[1], b.shape[1], a.device).update(a, b).value


def effective_rank(
    covariance: Tensor,  # [..., D, D]
    of: str = "variances",
) -> Tensor:
    """The number of directions over which features spread, ``exp(−Σ_i p_i·log p_i)`` with ``p = λ/Σλ``.

    Args:
        covariance: symmetric and positive semidefinite, [..., D, D], float32 or float64; its scale does not matter.
        of: "variances": λ are the eigenvalues of the covariance, so a direction counts by its share of the variance;
            "singular_values": their square roots, the singular values of the centred features, as in Roy & Vetterli
            and, for uncentred features, RankMe (arXiv 2210.02885). This one is never smaller.

    Returns:
        [...] in [1, D], float64; 0 if everything is zero. Eigenvalues below 0 due to rounding count as 0.

    Raises:
        ValueError: on another shape, or another spectrum.

    Deterministic on a CPU. Source: Roy & Vetterli 2007.

    >>> round(effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0]))).item(), 6)
    2.0
    """
    if of not in ("variances", "singular_values"):
        raise ValueError(f"effective_rank: of '{of}' is unknown; available: variances, singular_values")
    if covariance.dim() < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise ValueError(f"effective_rank: covariance has shape {list(covariance.shape)}; [..., D, D] is needed")
    values = torch.linalg.eigvalsh(covariance.double()).clamp(min=0)
    values = values.sqrt() if of == "singular_values" else values
    total = values.sum(-1, keepdim=True)
    p = torch.where(total > 0, values / total, 0.0)
    return torch.where(total.squeeze(-1) > 0, torch.special.entr(p).sum(-1).exp(), 0.0)
