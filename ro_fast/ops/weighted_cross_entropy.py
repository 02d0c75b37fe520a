"""Cross-entropy with one weight per sample, hard or soft targets and label smoothing; its backward recomputes softmax."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _reduce, _register, backends

_ARGS = "Tensor logits, Tensor target, Tensor? weight, float label_smoothing, str reduction"


def _smoothed(logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    """q = (1 − s)·t + s·Σt/C [N, C], t one-hot for hard targets."""
    soft = target if target.dim() == 2 else torch.nn.functional.one_hot(target, logits.shape[1])
    soft = soft.to(_check.compute_dtype(logits))
    return (1 - label_smoothing) * soft + label_smoothing * soft.sum(1, keepdim=True) / logits.shape[1]


def _scale(logits: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """∂loss/∂ce_n [N]: the weight over the reduction's denominator."""
    w = logits.new_ones(len(logits)) if weight is None else weight
    w = w.to(_check.compute_dtype(logits))
    if reduction == "mean":
        return w / len(w)
    if reduction == "weighted_mean":
        total = w.sum()
        return torch.where(total == 0, 0.0, w / total)
    return w


def _reference(logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str) -> Tensor:
    log_p = torch.log_softmax(logits.to(_check.compute_dtype(logits)), dim=1)
    q = _smoothed(logits, target, label_smoothing)
    # 0·log 0 = 0: a class without target mass contributes nothing, however small its probability.
    ce = -torch.where(q == 0, 0.0, q * log_p).sum(1)
    scale = _scale(logits, weight, reduction)
    if reduction == "mean" and len(ce) == 0:
        return ce.new_tensor(float("nan"))
    # A sample of weight 0 is left out entirely, even if its loss is infinite.
    loss = torch.where(scale == 0, 0.0, scale * ce)
    return loss if reduction == "none" else loss.sum()


def _reference_backward(
    grad: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    p = torch.softmax(logits.to(_check.compute_dtype(logits)), dim=1)
    q = _smoothed(logits, target, label_smoothing)
    scale = (grad * _scale(logits, weight, reduction)).unsqueeze(1)
    return torch.where(scale == 0, 0.0, scale * (q.sum(1, keepdim=True) * p - q)).to(logits.dtype)


def _forward(logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str) -> Tensor:
    run = backends.select("weighted_cross_entropy", logits.device.type)
    return run(*_layout.contiguous(logits, target, weight), label_smoothing, reduction)


def _backward_kernel(
    grad: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    run = backends.select("weighted_cross_entropy_backward", logits.device.type)
    return run(*_layout.contiguous(grad, logits, target, weight), label_smoothing, reduction)


def _fake(logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str) -> Tensor:
    shape = logits.shape[:1] if reduction == "none" else ()
    return logits.new_empty(shape, dtype=_check.compute_dtype(logits))


def _setup_context(ctx, inputs, output) -> None:
    logits, target, weight, ctx.label_smoothing, ctx.reduction = inputs
    ctx.save_for_backward(logits, target, weight)


def _autograd(ctx, grad: Tensor):
    logits, target, weight = ctx.saved_tensors
    rest = (logits, target, weight, ctx.label_smoothing, ctx.reduction)
    return _register.call("weighted_cross_entropy_backward", grad, *rest), None, None, None, None


def _each(overload, logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str) -> Tensor:
    """For a batch [B, N, C]: all rows in one call, then one reduction each."""
    loss = _register.rows(overload, logits, target, weight, label_smoothing, "none")  # [B, N]
    if reduction == "none":
        return loss
    if reduction == "weighted_mean" and weight is not None:
        total = weight.sum(1, dtype=loss.dtype)
        return torch.where(total == 0, 0.0, loss.sum(1) / total)
    if reduction == "weighted_mean" and loss.shape[1] == 0:
        return loss.sum(1)
    return loss.sum(1) if reduction == "sum" else loss.mean(1)


def _each_backward(
    overload, grad: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    if reduction != "none":
        count = logits.shape[1]
        denominator = {"sum": grad.new_ones(()), "mean": grad.new_tensor(count)}.get(reduction)
        if denominator is None:
            denominator = grad.new_tensor(count) if weight is None else weight.sum(1, dtype=grad.dtype)
        scale = torch.where(denominator == 0, 0.0, grad / denominator)
        grad = scale[:, None].expand(logits.shape[:2])
    return _register.rows(overload, grad, logits, target, weight, label_smoothing, "none")


_register.define_slot(f"weighted_cross_entropy({_ARGS}) -> Tensor", _reference)
_register.define_slot(f"weighted_cross_entropy_backward(Tensor grad, {_ARGS}) -> Tensor", _reference_backward)
_register.define_op(f"weighted_cross_entropy({_ARGS}) -> Tensor", _forward, _fake, _autograd, _setup_context, _each)
_register.define_op(
    f"weighted_cross_entropy_backward(Tensor grad, {_ARGS}) -> Tensor",
    _backward_kernel,
    lambda grad, logits, *rest: torch.empty_like(logits, memory_format=torch.contiguous_format),
    _register.differentiable_once("weighted_cross_entropy"),
    batch=_each_backward,
)


def weighted_cross_entropy(
    logits: Tensor,  # [N, C]
    target: Tensor,  # int64 [N] or probabilities [N, C]
    weight: Tensor | None = None,  # [N]
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy with one weight per sample, in one pass over the logits.

    ``ce_n = −Σ_c q_nc · log softmax(logits_n)_c`` with ``q = (1 − s)·t + s·Σt/C``, ``t`` the target (one-hot if hard).
    Reductions: "none" ``w_n·ce_n``; "sum" ``Σ w_n·ce_n``; "mean" ``Σ w_n·ce_n / N``; "weighted_mean"
    ``Σ w_n·ce_n / Σ w_n``, 0 where all weights are 0. A sample of weight 0 adds neither loss nor gradient.

    Args:
        logits: [N, C], float32, bfloat16 or float64; computed in at least float32.
        target: classes int64 [N] in [0, C), or probabilities [N, C].
        weight: [N], None for ones. A weight that requires grad gets its gradient.
        label_smoothing: s in [0, 1].
        reduction: one of "none", "sum", "mean", "weighted_mean".

    Returns:
        [N] for "none", else a scalar; float32, or float64 for float64 logits. Differentiable once, in logits and weight.

    Raises:
        ValueError, TypeError: on shapes, dtypes or options that don't fit, naming both values.

    Deterministic. Source: Szegedy et al. 2016 (arXiv 1512.00567) for label smoothing.

    >>> weighted_cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]), torch.tensor([1.0, 0.0]))
    tensor(0.6931)
    """
    _check_arguments(logits, target, weight, label_smoothing, reduction)
    op = functools.partial(_register.call, "weighted_cross_entropy")
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        return _reduce.weighted(lambda w: op(logits, target, w, label_smoothing, "none"), weight, reduction)
    return op(logits, target, weight, label_smoothing, reduction)


def _check_arguments(logits: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str) -> None:
    op = "weighted_cross_entropy"
    _reduce.check_logits(op, logits)
    if target.dim() == 1:
        _reduce.check_classes(op, "target", target, logits)
    elif target.shape != logits.shape:
        raise ValueError(f"{op}: target has shape {list(target.shape)}; [{logits.shape[0]}] or {list(logits.shape)} is needed")
    elif target.device != logits.device:
        raise ValueError(f"{op}: target is on {target.device}, logits on {logits.device}; they should agree")
    elif not target.is_floating_point():
        raise TypeError(f"{op}: soft targets are {target.dtype}; probabilities are needed")
    elif target.requires_grad:
        raise ValueError(f"{op}: target requires grad; only logits and weight are differentiated, so detach it")
    _reduce.check_weight(op, weight, logits, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing = {label_smoothing:g} should lie in [0, 1]")
