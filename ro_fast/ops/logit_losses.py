"""Losses on single logits: MART's boosted cross-entropy, Carlini & Wagner's margin, the difference of logits ratio.

All three depend on a few classes per row, so they share a schema and, in each backend, one loop over rows.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _reduce, _register, backends

NAMES = ("boosted_cross_entropy", "margin_loss", "dlr_loss")

_ARGS = "Tensor logits, Tensor target, Tensor? target_class, Tensor? weight"
_TINY = 1e-12  # in the ratio's denominator, as in AutoAttack


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, like.shape[1]).to(like.dtype)


def _rival(z: Tensor, y: Tensor) -> Tensor:
    """argmax_{k≠y} z_k [N], the first in case of ties."""
    return torch.where(_one_hot(y, z).bool(), -torch.inf, z).argmax(1)


def _boosted(z: Tensor, y: Tensor, target_class: Tensor | None) -> tuple[Tensor, Tensor]:
    """−log p_y − log(1 − p_m), m the rival of y, and its gradient 2p − 1_y − softmax without m."""
    m = _one_hot(_rival(z, y), z).bool()
    rest = torch.where(m, -torch.inf, z)
    log_sum = torch.logsumexp(z, 1)
    loss = (log_sum - z.gather(1, y[:, None])[:, 0]) + (log_sum - torch.logsumexp(rest, 1))
    return loss, 2 * torch.softmax(z, 1) - _one_hot(y, z) - torch.softmax(rest, 1)


def _margin(z: Tensor, y: Tensor, target_class: Tensor | None) -> tuple[Tensor, Tensor]:
    """max_{k≠y} z_k − z_y and its gradient."""
    grad = _one_hot(_rival(z, y), z) - _one_hot(y, z)
    return z.gather(1, _rival(z, y)[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0], grad


def _dlr(z: Tensor, y: Tensor, target_class: Tensor | None) -> tuple[Tensor, Tensor]:
    """(z_m − z_y) / (z_π1 − z_π3), with a target class t (z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2), and its gradient."""
    order = torch.sort(z, dim=1, descending=True, stable=True).indices
    upper = _rival(z, y) if target_class is None else target_class
    third = _one_hot(order[:, 2], z)
    if target_class is not None:
        third = (third + _one_hot(order[:, 3], z)) / 2
    above, below = _one_hot(upper, z) - _one_hot(y, z), _one_hot(order[:, 0], z) - third
    numerator, denominator = (above * z).sum(1), (below * z).sum(1) + _TINY
    loss = numerator / denominator
    return loss, (above - loss[:, None] * below) / denominator[:, None]


_LOSSES = {"boosted_cross_entropy": _boosted, "margin_loss": _margin, "dlr_loss": _dlr}


def _of_rows(name: str, logits: Tensor, target: Tensor, target_class: Tensor | None) -> tuple[Tensor, Tensor]:
    """Loss [N] and gradient [N, C] of each row; a row with NaN gives NaN."""
    z = logits.to(_check.compute_dtype(logits))
    loss, grad = _LOSSES[name](z, target, target_class)
    broken = z.isnan().any(1)
    return torch.where(broken, torch.nan, loss), torch.where(broken[:, None], torch.nan, grad)


def _reference(name: str, logits: Tensor, target: Tensor, target_class: Tensor | None, weight: Tensor | None) -> Tensor:
    w = _reduce.row_scale(logits, weight)
    return torch.where(w == 0, 0.0, w * _of_rows(name, logits, target, target_class)[0])


def _reference_backward(
    name: str, grad: Tensor, logits: Tensor, target: Tensor, target_class: Tensor | None, weight: Tensor | None
) -> Tensor:
    scale = (grad * _reduce.row_scale(logits, weight)).unsqueeze(1)
    return torch.where(scale == 0, 0.0, scale * _of_rows(name, logits, target, target_class)[1]).to(logits.dtype)


def _run(slot: str, *tensors: Tensor | None) -> Tensor:
    assert tensors[0] is not None
    return backends.select(slot, tensors[0].device.type)(*_layout.contiguous(*tensors))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(name: str, ctx, grad: Tensor):
    return _register.call(f"{name}_backward", grad, *ctx.saved_tensors), None, None, None


for _name in NAMES:
    _register.define_slot(f"{_name}({_ARGS}) -> Tensor", functools.partial(_reference, _name))
    _register.define_slot(f"{_name}_backward(Tensor grad, {_ARGS}) -> Tensor", functools.partial(_reference_backward, _name))
    _register.define_op(
        f"{_name}({_ARGS}) -> Tensor",
        functools.partial(_run, _name),
        lambda logits, *rest: logits.new_empty(len(logits), dtype=_check.compute_dtype(logits)),
        functools.partial(_autograd, _name),
        _setup_context,
        batch=_register.rows,
    )
    _register.define_op(
        f"{_name}_backward(Tensor grad, {_ARGS}) -> Tensor",
        functools.partial(_run, f"{_name}_backward"),
        lambda grad, logits, *rest: torch.empty_like(logits, memory_format=torch.contiguous_format),
        _register.differentiable_once(_name),
        batch=_register.rows,
    )


def _loss(
    name: str, classes: int, logits: Tensor, target: Tensor, target_class: Tensor | None, weight: Tensor | None, reduction: str
) -> Tensor:
    _reduce.check_logits(name, logits, classes)
    _reduce.check_classes(name, "target", target, logits)
    if target_class is not None:
        _reduce.check_classes(name, "target_class", target_class, logits)
    _reduce.check_weight(name, weight, logits, reduction)
    return _reduce.weighted(lambda w: _register.call(name, logits, target, target_class, w), weight, reduction)


def boosted_cross_entropy(
    logits: Tensor,  # [N, C]
    target: Tensor,  # int64 [N]
    weight: Tensor | None = None,  # [N]
    *,
    reduction: str = "mean",
) -> Tensor:
    """MART's boosted cross-entropy, ``−log p_y − log(1 − max_{k≠y} p_k)``, p = softmax(logits).

    Computed from sums of exponentials, so that neither logarithm loses precision; MART's code adds 1e-4 within them
    instead, which bounds the second term by 9.2.

    Args:
        logits: [N, C], C ≥ 2, float32, bfloat16 or float64; computed in at least float32.
        target: classes int64 [N].
        weight: [N], None for ones.
        reduction: one of "none", "sum", "mean", "weighted_mean", as for :func:`weighted_cross_entropy`.

    Returns:
        [N] for "none", else a scalar. Differentiable once, in logits and weight.

    Raises:
        ValueError, TypeError: on shapes, dtypes or options that don't fit, naming both values.

    Deterministic. Source: Wang et al. 2020 (MART), eq. 6.

    >>> boosted_cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
    tensor(1.3863)
    """
    return _loss("boosted_cross_entropy", 2, logits, target, None, weight, reduction)


def margin_loss(
    logits: Tensor,  # [N, C]
    target: Tensor,  # int64 [N]
    weight: Tensor | None = None,  # [N]
    *,
    reduction: str = "mean",
) -> Tensor:
    """The margin by which a sample is misclassified, ``max_{k≠y} z_k − z_y``: an attack climbs it; positive means success.

    Args:
        logits: [N, C], C ≥ 2, float32, bfloat16 or float64; computed in at least float32.
        target: classes int64 [N].
        weight: [N], None for ones.
        reduction: one of "none", "sum", "mean", "weighted_mean", as for :func:`weighted_cross_entropy`.

    Returns:
        [N] for "none", else a scalar. Differentiable once, in logits and weight; among tied rivals the first gets the gradient.

    Raises:
        ValueError, TypeError: on shapes, dtypes or options that don't fit, naming both values.

    Deterministic. Source: Carlini & Wagner 2017 (arXiv 1608.04644), f₆ with its sign reversed.

    >>> margin_loss(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor(-1.)
    """
    return _loss("margin_loss", 2, logits, target, None, weight, reduction)


def dlr_loss(
    logits: Tensor,  # [N, C]
    target: Tensor,  # int64 [N]
    target_class: Tensor | None = None,  # int64 [N]
    weight: Tensor | None = None,  # [N]
    *,
    reduction: str = "mean",
) -> Tensor:
    """Difference of logits ratio, invariant to shift and scale of the logits: an attack climbs it.

    ``(max_{k≠y} z_k − z_y) / (z_π1 − z_π3 + 1e-12)``, π the classes by decreasing logit; with a target class t
    ``(z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2 + 1e-12)``.

    Args:
        logits: [N, C], C ≥ 3, or 4 with target classes, float32, bfloat16 or float64; computed in at least float32.
        target: true classes int64 [N].
        target_class: classes int64 [N] to target; None for any other class.
        weight: [N], None for ones.
        reduction: one of "none", "sum", "mean", "weighted_mean", as for :func:`weighted_cross_entropy`.

    Returns:
        [N] for "none", else a scalar. Differentiable once, in logits and weight; ties go to the first class.

    Raises:
        ValueError, TypeError: on shapes, dtypes or options that don't fit, naming both values.

    Deterministic. Source: Croce & Hein 2020 (arXiv 2003.01690), eqs. 6 and 7.

    >>> dlr_loss(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor(-0.5000)
    """
    return _loss("dlr_loss", 3 if target_class is None else 4, logits, target, target_class, weight, reduction)
