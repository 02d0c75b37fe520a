"""How well features generalise from training to test data: statistics on features, not on the classifier's answers.

The *feature generalisation gap* is :func:`feature_gap`; the others stand beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ro_fast.features.statistics import effective_rank, linear_cka
from ro_fast.ops import ClassMoments, class_moments

Kinds = dict[str, Tensor]  # "natural", "adversarial" -> [N, D]


def feature_gap(
    train: Tensor,  # [N, D]
    y_train: Tensor,  # int64 [N]
    test: Tensor,  # [M, D]
    y_test: Tensor,  # int64 [M]
    num_classes: int,
) -> Tensor:
    """The feature generalisation gap: how much better classes are told apart by their centres on training than on test data.

    ``gap = acc_loo(train) − acc(test)``, accuracies of the nearest class centre in feature space. Centres are means over the
    training features; a training sample is held against its own class's centre without itself,
    ``m_c^(−i) = (n_c·m_c − f_i)/(n_c − 1)``, since with few samples a centre that holds the sample flatters it.

    Why this one: it reads the representation alone, not what the last layer makes of it, so that it is not the classifier's
    train–test difference told again; it is bounded, has a unit that means something, needs no inverse of a covariance that few
    samples can't give, and is 0 in the mean where training and test features have one distribution. Training labels
    count as they are: redrawn ones lower it until the network has learnt them by heart, so compare changes, not levels,
    where labels are noisy.

    Returns:
        A float64 scalar in [−1, 1]. Samples whose class has no other training sample are left out; NaN where none is left.
    """
    moments = class_moments(train, y_train, num_classes)
    return _centre_accuracy(train, y_train, moments, True) - _centre_accuracy(test, y_test, moments, False)


def _centre_accuracy(f: Tensor, y: Tensor, moments: ClassMoments, own: bool) -> Tensor:
    """Accuracy of the nearest class centre; ``own``: the features are those the centres are made of."""
    distance = torch.cdist(f.double(), moments.mean)  # [N, C]
    distance = distance.masked_fill(moments.count == 0, torch.inf)
    n = moments.count[y].double()
    counts = n > 1 if own else n > 0
    if own:
        without = distance.gather(1, y[:, None]) * (n / (n - 1))[:, None]  # ‖f − m^(−i)‖ = n/(n − 1)·‖f − m‖
        distance = distance.scatter(1, y[:, None], without)
    right = distance.argmin(1) == y
    return (right & counts).sum().double() / counts.sum()


def spread_ratio(moments: ClassMoments) -> Tensor:
    """Within over between, ``tr S_W / tr S_B`` (NC1, Papyan et al. 2020): how far classes have collapsed to their centres."""
    return moments.within.trace() / moments.between.trace()


def class_frechet(
    train: Tensor,  # [N, D]
    y_train: Tensor,  # int64 [N]
    test: Tensor,  # [M, D]
    y_test: Tensor,  # int64 [M]
    num_classes: int,
) -> Tensor:
    """Fréchet distance between training's and test's features of a class, the mean over classes.

    ``d² = ‖m₁ − m₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½``. With ``Σ = AᵀA`` of centred samples A/√(n − 1), the last trace is the
    nuclear norm of ``A₁A₂ᵀ``, which is exact and needs no regularisation where samples are fewer than features. It is
    biased upwards by few samples, alike for all arms of a suite.

    Returns:
        A float64 scalar, the mean of d over classes with two samples on both sides; NaN where there is none.
    """
    (a, shift_a, count_a), (b, shift_b, count_b) = (_by_class(*part, num_classes) for part in ((train, y_train), (test, y_test)))
    shift = shift_a - shift_b
    overlap = torch.linalg.svdvals(a @ b.mT).sum(1)  # rows of zeros add none
    squared = shift.square().sum(1) + a.square().sum((1, 2)) + b.square().sum((1, 2)) - 2 * overlap
    both = (count_a > 1) & (count_b > 1)
    return squared[both].clamp(min=0).sqrt().mean()


def _by_class(x: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centred samples over √(n − 1), a class a slice [C, most, D] filled up with zeros; means [C, D]; counts [C]."""
    count = torch.bincount(y, minlength=num_classes)
    order = y.argsort(stable=True)
    place = torch.arange(len(y), device=y.device) - (count.cumsum(0) - count)[y[order]]
    slices = torch.zeros(num_classes, max(1, int(count.max())), x.shape[1], dtype=torch.float64, device=x.device)
    slices[y[order], place] = x[order].double()
    mean = slices.sum(1) / count.clamp(min=1)[:, None]
    there = torch.arange(slices.shape[1], device=y.device) < count[:, None]
    centred = (slices - mean[:, None]) * there[:, :, None] / (count - 1).clamp(min=1).double().sqrt()[:, None, None]
    return centred, mean, count


def probe_gap(
    train: Tensor,  # [N, D]
    y_train: Tensor,  # int64 [N]
    test: Tensor,  # [M, D]
    y_test: Tensor,  # int64 [M]
    num_classes: int,
) -> Tensor:
    """Training minus test accuracy of a linear probe: ridge regression on the classes, ``λ = 10⁻² · tr(XᵀX)/D``."""
    mean = train.double().mean(0)
    a, b = train.double() - mean, test.double() - mean
    gram = a.T @ a
    ridge = 0.01 * gram.trace() / len(gram) + 1e-12
    target = torch.nn.functional.one_hot(y_train, num_classes).double()
    weights = torch.linalg.solve(
        gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), a.T @ (target - target.mean(0))
    )

    def accuracy(f: Tensor, y: Tensor) -> Tensor:
        return ((f @ weights + target.mean(0)).argmax(1) == y).double().mean()

    return accuracy(a, y_train) - accuracy(b, y_test)


def measure(
    train: Kinds,
    y_train: Tensor,  # int64 [N]
    test: Kinds,
    y_test: Tensor,  # int64 [M]
    num_classes: int,
) -> dict[str, dict[str, float | None]]:
    """All statistics of one layer: kind -> name -> value, with "cka" of natural and adversarial features under "both"."""
    found: dict[str, dict[str, Tensor]] = {}
    for kind in train:
        a, b = train[kind], test[kind]
        moments = {
            "train": class_moments(a, y_train, num_classes, covariance=True),
            "test": class_moments(b, y_test, num_classes, covariance=True),
        }
        gap = feature_gap(a, y_train, b, y_test, num_classes)
        centre = _centre_accuracy(b, y_test, moments["train"], False)
        found[kind] = {
            "feature_gap": gap,
            "centre_acc_train": gap + centre,
            "centre_acc_test": centre,
            "spread_train": spread_ratio(moments["train"]),
            "spread_test": spread_ratio(moments["test"]),
            "frechet": class_frechet(a, y_train, b, y_test, num_classes),
            "effective_rank_train": effective_rank(moments["train"].total),
            "effective_rank_test": effective_rank(moments["test"].total),
            "probe_gap": probe_gap(a, y_train, b, y_test, num_classes),
        }
    found["both"] = {
        "cka_train": linear_cka(train["natural"], train["adversarial"]),
        "cka_test": linear_cka(test["natural"], test["adversarial"]),
    }
    return {kind: {name: _number(value) for name, value in values.items()} for kind, values in found.items()}


def _number(value: Tensor) -> float | None:
    """JSON has no NaN: what could not be measured is null."""
    number = float(value)
    return number if math.isfinite(number) else None
