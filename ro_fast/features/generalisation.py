"""How well features generalise from training to test data: statistics of features, not of the classifier's outputs.

The *feature generalisation gap* is :func:`feature_gap`; the other statistics supplement it.
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
    weight: Tensor | None = None,  # [N], not negative: how probable it is that a training label is right; None: all 1
) -> Tensor:
    """The feature generalisation gap: how much better class centres separate training data than test data.

    ``gap = acc_loo(train) − acc(test)``, accuracies of the nearest class centre in feature space. Centres are means over the
    training features; a training sample is compared with the centre of its own class without itself,
    ``m_c^(−i) = (n_c·m_c − f_i)/(n_c − 1)``, since with few samples a centre that includes the sample is biased in its favour.
    With weights, sums, counts and the accuracy on training data are weighted: ``m_c = Σ w_i f_i / Σ w_i``.

    Why this one: it looks at the representation alone, not at what the last layer makes of it, so it does not just repeat the
    classifier's train–test difference. It is bounded, has an interpretable unit, needs no inverse of a covariance, which few
    samples can't provide, and is 0 on average if training and test features have one distribution. Without weights, training
    labels count as they are: redrawn ones lower it until the network has memorised them, so with noisy labels compare
    changes, not levels.

    Returns:
        A float64 scalar in [−1, 1]. Samples whose class has no other training sample are left out; NaN if none is left.
    """
    on_train, on_test = _centre_accuracies(train, y_train, test, y_test, num_classes, weight)
    return on_train - on_test


def _centre_accuracies(
    train: Tensor, y_train: Tensor, test: Tensor, y_test: Tensor, num_classes: int, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Accuracies of the nearest class centre, on the training features without the sample itself, and on the test features."""
    w = torch.ones(len(y_train), dtype=torch.float64, device=train.device) if weight is None else weight.double()
    total = torch.zeros(num_classes, dtype=torch.float64, device=train.device).index_add(0, y_train, w)
    sums = torch.zeros(num_classes, train.shape[1], dtype=torch.float64, device=train.device)
    centres = sums.index_add(0, y_train, w[:, None] * train.double()) / total[:, None]

    def distances(f: Tensor) -> Tensor:  # [., C]
        return torch.cdist(f.double(), centres).masked_fill(total == 0, torch.inf)

    others = total[y_train] - w
    counts = others > 1e-9 * total[y_train]
    apart = distances(train)
    # ‖f − m^(−i)‖ = W/(W − w)·‖f − m‖ with W the weight of the sample's class
    without = apart.gather(1, y_train[:, None]) * (total[y_train] / others)[:, None]
    right = apart.scatter(1, y_train[:, None], without).argmin(1) == y_train
    on_train = (w * (right & counts)).sum() / (w * counts).sum()
    known = total[y_test] > 0
    on_test = ((distances(test).argmin(1) == y_test) & known).sum().double() / known.sum()
    return on_train, on_test


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
    """Fréchet distance between the training and test features of a class, averaged over classes.

    ``d² = ‖m₁ − m₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½``. With ``Σ = AᵀA`` of centred samples A/√(n − 1), the last trace is the
    nuclear norm of ``A₁A₂ᵀ``, which is exact and needs no regularisation if there are fewer samples than features. It is
    biased upwards for few samples, equally for all arms of a suite.

    Returns:
        A float64 scalar, the mean of d over classes with two samples on both sides; NaN if there is none.
    """
    (a, shift_a, count_a), (b, shift_b, count_b) = (_by_class(*part, num_classes) for part in ((train, y_train), (test, y_test)))
    shift = shift_a - shift_b
    overlap = torch.linalg.svdvals(a @ b.mT).sum(1)  # rows of zeros add none
    squared = shift.square().sum(1) + a.square().sum((1, 2)) + b.square().sum((1, 2)) - 2 * overlap
    both = (count_a > 1) & (count_b > 1)
    return squared[both].clamp(min=0).sqrt().mean()


def _by_class(x: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centred samples over √(n − 1), one class per slice [C, most, D] padded with zeros; means [C, D]; counts [C]."""
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
    weight: Tensor | None = None,  # [N]; used by the feature gap and the accuracies it is made of
) -> dict[str, dict[str, float | None]]:
    """All statistics of one layer: kind -> name -> value, with "cka" of natural and adversarial features under "both"."""
    found: dict[str, dict[str, Tensor]] = {}
    for kind in train:
        a, b = train[kind], test[kind]
        moments = {
            "train": class_moments(a, y_train, num_classes, covariance=True),
            "test": class_moments(b, y_test, num_classes, covariance=True),
        }
        on_train, on_test = _centre_accuracies(a, y_train, b, y_test, num_classes, weight)
        found[kind] = {
            "feature_gap": on_train - on_test,
            "centre_acc_train": on_train,
            "centre_acc_test": on_test,
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
