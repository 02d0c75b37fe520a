"""Count, mean and scatter of features by class, in float64, mergeable over batches and machines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast import backends
from ro_fast.ops import _check, _register

_SCHEMA = "class_moments(Tensor features, Tensor labels, int num_classes, bool covariance) -> (Tensor, Tensor, Tensor)"


@dataclass(frozen=True)
class ClassMoments:
    """Count, mean and scatter of each class.

    >>> a = class_moments(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), 1, covariance=True)
    >>> b = class_moments(torch.tensor([[8.0]]), torch.tensor([0]), 1, covariance=True)
    >>> a.merge(b).mean, a.merge(b).scatter
    (tensor([[4.]], dtype=torch.float64), tensor([[[26.]]], dtype=torch.float64))
    """

    count: Tensor  # [C] int64
    mean: Tensor  # [C, D] float64; zero for a class without samples
    scatter: Tensor | None  # [C, D, D] float64, Σ (f − mean)(f − mean)ᵀ; None where it was not asked for

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Moments of both sets of samples together.

        ``mean = (n_a·m_a + n_b·m_b)/n``, ``scatter = S_a + S_b + (n_a·n_b/n)·d·dᵀ`` with ``d = m_b − m_a``, ``n = n_a + n_b``
        (Chan, Golub & LeVeque 1983).

        Raises:
            ValueError: where the two differ in classes, features or in having a scatter.
        """
        if self.mean.shape != other.mean.shape or (self.scatter is None) != (other.scatter is None):
            raise ValueError(
                f"ClassMoments.merge: means {list(self.mean.shape)} and {list(other.mean.shape)}, scatter "
                f"{self.scatter is not None} and {other.scatter is not None}; both should agree"
            )
        count = self.count + other.count
        n = count.clamp(min=1).to(torch.float64)
        share = other.count / n  # [C]
        d = other.mean - self.mean  # [C, D]
        mean = self.mean + share.unsqueeze(1) * d
        if self.scatter is None or other.scatter is None:
            return ClassMoments(count, mean, None)
        between = (self.count * share).view(-1, 1, 1) * d.unsqueeze(2) * d.unsqueeze(1)
        return ClassMoments(count, mean, self.scatter + other.scatter + between)


def _reference(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, Tensor, Tensor]:
    f = features.to(torch.float64)
    count = torch.bincount(labels, minlength=num_classes)
    total = f.new_zeros(num_classes, f.shape[1]).index_add_(0, labels, f)
    mean = total / count.clamp(min=1).unsqueeze(1)
    if not covariance:
        return count, mean, f.new_empty(0)
    centred = f - mean[labels]
    scatter = torch.stack([rows.T @ rows for rows in (centred[labels == c] for c in range(num_classes))])
    return count, mean, scatter


def _kernel(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, Tensor, Tensor]:
    run = backends.select("class_moments", features.device.type)
    return run(features.contiguous(), labels.contiguous(), num_classes, covariance)


def _fake(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, Tensor, Tensor]:
    d = features.shape[1]
    f = features.new_empty(num_classes, d, dtype=torch.float64)
    return labels.new_empty(num_classes), f, f.new_empty((num_classes, d, d) if covariance else (0,))


_register.define_slot(_SCHEMA, _reference)
_register.define_op(_SCHEMA, _kernel, _fake)


def class_moments(
    features: Tensor,  # [N, D]
    labels: Tensor,  # int64 [N]
    num_classes: int,
    *,
    covariance: bool = False,
) -> ClassMoments:
    """Count, mean and, if asked, scatter of the features of each class.

    ``mean_c = Σ_{n: y_n = c} f_n / count_c``, ``scatter_c = Σ_{n: y_n = c} (f_n − mean_c)(f_n − mean_c)ᵀ``.

    Args:
        features: [N, D], float32, bfloat16 or float64; summed in float64.
        labels: int64 [N] in [0, num_classes).
        num_classes: C.
        covariance: also compute the scatter, N·D² multiplications.

    Returns:
        ClassMoments with count [C], mean [C, D], scatter [C, D, D] or None. No gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes or devices that don't fit, naming both values.

    Deterministic on a CPU.

    >>> class_moments(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 2]), 3).mean.flatten().tolist()
    [2.0, 0.0, 7.0]
    """
    op = "class_moments"
    _check.check_images(op, features=features)
    if features.dim() != 2:
        raise ValueError(f"{op}: features have shape {list(features.shape)}; [N, D] is needed")
    _check.check_per_sample(op, "labels", labels, features)
    if labels.dtype != torch.int64:
        raise TypeError(f"{op}: labels are {labels.dtype}; torch.int64 is needed")
    if num_classes < 1:
        raise ValueError(f"{op}: num_classes = {num_classes} should be at least 1")
    with torch.no_grad():
        count, mean, scatter = torch.ops.ro_fast.class_moments(features, labels, num_classes, covariance)
    return ClassMoments(count, mean, scatter if covariance else None)
