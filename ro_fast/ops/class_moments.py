"""Count, mean and scatter of features by class, in float64, mergeable over batches and machines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.ops import _check, _register, backends

_SCHEMA = "class_moments(Tensor features, Tensor labels, int num_classes, bool covariance) -> (Tensor, Tensor, Tensor)"
_INTO = "(Tensor(a!) count, Tensor(b!) mean, Tensor(c!)? scatter, Tensor features, Tensor labels) -> ()"


@dataclass(frozen=True)
class ClassMoments:
    """Count, mean and scatter of each class, and the scatter matrices derived from them; all in float64.

    >>> a = class_moments(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), 1, covariance=True)
    >>> b = class_moments(torch.tensor([[6.0], [6.0]]), torch.tensor([0, 0]), 1, covariance=True)
    >>> a.merge(b).mean, a.merge(b).scatter
    (tensor([[4.]], dtype=torch.float64), tensor([[[18.]]], dtype=torch.float64))
    """

    count: Tensor  # [C] int64
    mean: Tensor  # [C, D] float64; zero for a class without samples
    scatter: Tensor | None  # [C, D, D] float64, Σ (f − mean)(f − mean)ᵀ; None if not requested

    @classmethod
    def empty(
        cls, num_classes: int, num_features: int, *, covariance: bool = False, device: torch.device | str | None = None
    ) -> ClassMoments:
        """Moments of no samples, for :meth:`update`."""
        mean = torch.zeros(num_classes, num_features, dtype=torch.float64, device=device)
        scatter = mean.new_zeros(num_classes, num_features, num_features) if covariance else None
        return cls(mean.new_zeros(num_classes, dtype=torch.int64), mean, scatter)

    def update(
        self,
        features: Tensor,  # [N, D]
        labels: Tensor,  # int64 [N]
    ) -> ClassMoments:
        """Adds a batch in place, without allocating a second scatter; returns itself.

        The formula is that of :meth:`merge`, applied to the moments of the batch.

        Raises:
            ValueError, TypeError: as for :func:`class_moments`, and if the number of features differs from before.

        >>> moments = ClassMoments.empty(2, 1)
        >>> for f, y in [([[1.0]], [0]), ([[3.0], [7.0]], [0, 1])]:
        ...     moments = moments.update(torch.tensor(f), torch.tensor(y))
        >>> moments.mean.flatten().tolist()
        [2.0, 7.0]
        """
        op = "ClassMoments.update"
        _check_samples(op, features, labels)
        if features.shape[1] != self.mean.shape[1]:
            raise ValueError(f"{op}: features have {features.shape[1]} values, the means {self.mean.shape[1]}; they should agree")
        if features.device != self.mean.device:
            raise ValueError(f"{op}: features are on {features.device}, the moments on {self.mean.device}; they should agree")
        with torch.no_grad():
            torch.ops.ro_fast.class_moments_update(self.count, self.mean, self.scatter, features, labels)
        return self

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Moments of both sets of samples combined.

        ``mean = (n_a·m_a + n_b·m_b)/n``, ``scatter = S_a + S_b + (n_a·n_b/n)·d·dᵀ`` with ``d = m_b − m_a``, ``n = n_a + n_b``
        (Chan, Golub & LeVeque 1983).

        Raises:
            ValueError: if the two differ in classes, features or in having a scatter.
        """
        if self.mean.shape != other.mean.shape or (self.scatter is None) != (other.scatter is None):
            raise ValueError(
                f"ClassMoments.merge: means {list(self.mean.shape)} and {list(other.mean.shape)}, scatter "
                f"{self.scatter is not None} and {other.scatter is not None}; both should agree"
            )
        count, mean = self.count.clone(), self.mean.clone()
        scatter = None if self.scatter is None or other.scatter is None else self.scatter + other.scatter
        _join(count, mean, scatter, other.count, other.mean)
        return ClassMoments(count, mean, scatter)

    @property
    def covariance(self) -> Tensor:
        """Covariance of each class, ``scatter_c/(n_c − 1)`` [C, D, D]; NaN for a class of fewer than two samples."""
        n = self.count.view(-1, 1, 1)
        return torch.where(n > 1, self._scatter / (n - 1).clamp(min=1), torch.nan)

    @property
    def within(self) -> Tensor:
        """Scatter around the class means, ``S_W = Σ_c scatter_c`` [D, D]; over N it is the within-class covariance."""
        return self._scatter.sum(0)

    @property
    def between(self) -> Tensor:
        """Scatter of the class means, ``S_B = Σ_c n_c·(m_c − m)(m_c − m)ᵀ`` [D, D]; a class without samples adds nothing."""
        spread = self.spread
        return spread.T @ spread

    @property
    def total(self) -> Tensor:
        """Scatter around the mean of all, ``S_T = S_W + S_B`` [D, D]."""
        return self.within + self.between

    @property
    def overall_mean(self) -> Tensor:
        """Mean of all samples, ``m = Σ_c n_c·m_c/N`` [D]; NaN if there are none."""
        return self.count.to(torch.float64) @ self.mean / self.count.sum()

    @property
    def spread(self) -> Tensor:
        """``√n_c·(m_c − m)`` [C, D], whose product with itself is :attr:`between`; zero for a class without samples."""
        n = self.count.to(torch.float64).unsqueeze(1)
        return torch.where(n > 0, n.sqrt() * (self.mean - self.overall_mean), 0.0)

    @property
    def _scatter(self) -> Tensor:
        if self.scatter is None:
            raise ValueError("ClassMoments: there is no scatter; request it with covariance=True")
        return self.scatter


def _join(count: Tensor, mean: Tensor, scatter: Tensor | None, count_b: Tensor, mean_b: Tensor) -> None:
    """Merges count and mean of other samples into these in place; adds the between-sets term to ``scatter``, the sum of both."""
    share = count_b.to(torch.float64) / (count + count_b).clamp(min=1)  # [C]
    delta = torch.where(count_b.unsqueeze(1) > 0, mean_b - mean, 0.0)  # [C, D]
    if scatter is not None:
        shift = (count * share).sqrt().unsqueeze(1) * delta  # its product with itself is exactly symmetric
        scatter.baddbmm_(shift.unsqueeze(2), shift.unsqueeze(1))
    mean += share.unsqueeze(1) * delta
    count += count_b


def _reference(count: Tensor, mean: Tensor, scatter: Tensor | None, features: Tensor, labels: Tensor) -> None:
    f = features.to(torch.float64)
    own = torch.zeros_like(count).index_add_(0, labels, torch.ones_like(labels))
    if f.is_cuda:  # there index_add_ adds in whatever order its threads run, so float64 sums vary between calls
        total = torch.stack([f[labels == c].sum(0) for c in range(len(mean))])
    else:
        total = torch.zeros_like(mean).index_add_(0, labels, f)
    own_mean = total / own.clamp(min=1).unsqueeze(1)
    if scatter is not None:
        centred = f - own_mean[labels]
        for c, scatter_c in enumerate(scatter):
            rows = centred[labels == c]
            scatter_c.addmm_(rows.T, rows)
    _join(count, mean, scatter, own, own_mean)


def _into(count: Tensor, mean: Tensor, scatter: Tensor | None, features: Tensor, labels: Tensor) -> None:
    moments = (count, mean, scatter)
    written = [t if t is None else t.contiguous() for t in moments]
    backends.select("class_moments", features.device.type)(*written, features.contiguous(), labels.contiguous())
    for t, w in zip(moments, written, strict=True):
        if t is not None and w is not None and w is not t:
            t.copy_(w)


def _new(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, Tensor, Tensor]:
    moments = ClassMoments.empty(num_classes, features.shape[1], covariance=covariance, device=features.device)
    _into(moments.count, moments.mean, moments.scatter, features, labels)
    return moments.count, moments.mean, moments.mean.new_empty(0) if moments.scatter is None else moments.scatter


def _fake(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, Tensor, Tensor]:
    d = features.shape[1]
    f = features.new_empty(num_classes, d, dtype=torch.float64)
    return labels.new_empty(num_classes), f, f.new_empty((num_classes, d, d) if covariance else (0,))


_register.define_slot(f"class_moments{_INTO}", _reference)
_register.define_op(_SCHEMA, _new, _fake)
_register.define_op(f"class_moments_update{_INTO}", _into, lambda *args: None)


def class_moments(
    features: Tensor,  # [N, D]
    labels: Tensor,  # int64 [N]
    num_classes: int,
    *,
    covariance: bool = False,
) -> ClassMoments:
    """Count, mean and, if requested, scatter of the features of each class.

    ``mean_c = Σ_{n: y_n = c} f_n / count_c``, ``scatter_c = Σ_{n: y_n = c} (f_n − mean_c)(f_n − mean_c)ᵀ``.

    Args:
        features: [N, D], float32, bfloat16 or float64; summed in float64.
        labels: int64 [N] in [0, num_classes).
        num_classes: C.
        covariance: also compute the scatter, at N·D² multiplications.

    Returns:
        ClassMoments with count [C], mean [C, D], scatter [C, D, D] or None. No gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes or devices that don't fit, naming both values.

    Deterministic.

    >>> class_moments(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 2]), 3).mean.flatten().tolist()
    [2.0, 0.0, 7.0]
    """
    _check_samples("class_moments", features, labels)
    if num_classes < 1:
        raise ValueError(f"class_moments: num_classes = {num_classes} should be at least 1")
    with torch.no_grad():
        count, mean, scatter = torch.ops.ro_fast.class_moments(features, labels, num_classes, covariance)
    return ClassMoments(count, mean, scatter if covariance else None)


def _check_samples(op: str, features: Tensor, labels: Tensor) -> None:
    _check.check_images(op, features=features)
    if features.dim() != 2:
        raise ValueError(f"{op}: features have shape {list(features.shape)}; [N, D] is needed")
    _check.check_per_sample(op, "labels", labels, features)
    if labels.dtype != torch.int64:
        raise TypeError(f"{op}: labels are {labels.dtype}; torch.int64 is needed")
