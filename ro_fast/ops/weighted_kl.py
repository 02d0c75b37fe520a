"""Kullback-Leibler divergence between two rows of logits with one weight per sample, the regulariser of TRADES and MART."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _reduce, _register, backends

_ARGS = "Tensor logits, Tensor target_logits, Tensor? weight"


def _parts(logits: Tensor, target_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p, t and t·(log t − log p) [N, C], 0 where t is."""
    dtype = _check.compute_dtype(logits)
    log_p, log_t = (torch.log_softmax(z.to(dtype), dim=1) for z in (logits, target_logits))
    t = log_t.exp()
    return log_p, t, torch.where(t == 0, 0.0, t * (log_t - log_p))


def _reference(logits: Tensor, target_logits: Tensor, weight: Tensor | None) -> Tensor:
    w = _reduce.row_scale(logits, weight)
    return torch.where(w == 0, 0.0, w * _parts(logits, target_logits)[2].sum(1))


def _reference_backward(grad: Tensor, logits: Tensor, target_logits: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    log_p, t, terms = _parts(logits, target_logits)
    scale = (grad * _reduce.row_scale(logits, weight)).unsqueeze(1)
    d_logits = torch.where(scale == 0, 0.0, scale * (log_p.exp() - t))
    d_target = torch.where(scale == 0, 0.0, scale * (terms - t * terms.sum(1, keepdim=True)))
    return d_logits.to(logits.dtype), d_target.to(logits.dtype)


def _forward(logits: Tensor, target_logits: Tensor, weight: Tensor | None) -> Tensor:
    run = backends.select("weighted_kl", logits.device.type)
    return run(*_layout.contiguous(logits, target_logits, weight))


def _backward(grad: Tensor, logits: Tensor, target_logits: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    run = backends.select("weighted_kl_backward", logits.device.type)
    return run(*_layout.contiguous(grad, logits, target_logits, weight))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad: Tensor):
    return *_register.call("weighted_kl_backward", grad, *ctx.saved_tensors), None


def _like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


_register.define_slot(f"weighted_kl({_ARGS}) -> Tensor", _reference)
_register.define_slot(f"weighted_kl_backward(Tensor grad, {_ARGS}) -> (Tensor, Tensor)", _reference_backward)
_register.define_op(
    f"weighted_kl({_ARGS}) -> Tensor",
    _forward,
    lambda logits, *rest: logits.new_empty(len(logits), dtype=_check.compute_dtype(logits)),
    _autograd,
    _setup_context,
    batch=_register.rows,
)
_register.define_op(
    f"weighted_kl_backward(Tensor grad, {_ARGS}) -> (Tensor, Tensor)",
    _backward,
    lambda grad, logits, target_logits, weight: (_like(logits), _like(target_logits)),
    _register.differentiable_once("weighted_kl"),
    batch=_register.rows,
)


def weighted_kl(
    logits: Tensor,  # [N, C]
    target_logits: Tensor,  # [N, C]
    weight: Tensor | None = None,  # [N]
    *,
    reduction: str = "mean",
) -> Tensor:
    """KL divergence of the model's output from another, ``kl_n = Σ_c t_nc·(log t_nc − log p_nc)``, weighted.

    ``p = softmax(logits)``, ``t = softmax(target_logits)``; classes with t = 0 add nothing. TRADES uses adversarial logits with
    natural ones as the target; MART the same with ``weight = 1 − t_ny``. Reductions as for :func:`weighted_cross_entropy`.

    Args:
        logits, target_logits: [N, C], both float32, bfloat16 or float64; computed in at least float32.
        weight: [N], None for ones. A weight that requires grad gets its gradient.
        reduction: one of "none", "sum", "mean", "weighted_mean".

    Returns:
        [N] for "none", else a scalar; float32, or float64 for float64 logits. Differentiable once, in both logits and weight.

    Raises:
        ValueError, TypeError: on shapes, dtypes or options that don't fit, naming both values.

    Deterministic. Source: Zhang et al. 2019 (arXiv 1901.08573), eq. 5; Wang et al. 2020 (MART), eq. 8.

    >>> weighted_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -1e9]]))
    tensor(0.6931)
    """
    _reduce.check_logits("weighted_kl", logits)
    _check.check_images("weighted_kl", logits=logits, target_logits=target_logits)
    _reduce.check_weight("weighted_kl", weight, logits, reduction)
    return _reduce.weighted(lambda w: _register.call("weighted_kl", logits, target_logits, w), weight, reduction)
