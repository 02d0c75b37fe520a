"""One step of projected gradient ascent, fused: move along the gradient, project to the ball, clip to the range."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _register, backends

_ARGS = (
    "Tensor x_adv, Tensor x, Tensor grad, float eps, float alpha, Tensor? eps_n, Tensor? alpha_n, "
    "str norm, float lo, float hi, Tensor? active"
)


def _reference(
    out: Tensor,  # written; all images are in the same sample-major order; may be x_adv itself
    x_adv: Tensor,  # [N, ...]
    x: Tensor,  # [N, ...]
    grad: Tensor,  # [N, ...]
    eps: float,
    alpha: float,
    eps_n: Tensor | None,  # [N] in the compute dtype; replaces eps
    alpha_n: Tensor | None,  # [N]
    norm: str,
    lo: float,
    hi: float,
    active: Tensor | None,  # bool [N]
) -> None:
    rows = (-1,) + (1,) * (x.dim() - 1)
    dtype = _check.compute_dtype(x)
    a, c, g = x_adv.to(dtype), x.to(dtype), grad.to(dtype)
    radius = eps if eps_n is None else eps_n.view(rows)
    step = alpha if alpha_n is None else alpha_n.view(rows)
    if norm == "linf":
        moved = a + step * torch.sign(g)
        moved = torch.minimum(torch.maximum(moved, c - radius), c + radius)
    else:
        g_norm = _row_norm(g)
        moved = a + torch.where((g_norm > 0) & g_norm.isfinite(), step * (g / g_norm), 0.0)
        delta = moved - c
        d_norm = _row_norm(delta)
        moved = c + delta * torch.where(d_norm > radius, radius / d_norm, 1.0)
    moved = moved.clamp(lo, hi).to(x.dtype)
    out.copy_(moved if active is None else torch.where(active.view(rows), moved, x_adv))


def _row_norm(t: Tensor) -> Tensor:
    """‖t_n‖₂ [N, 1, ...], summed in float64: squares of saturated gradients underflow in float32."""
    if t.dim() == 1:
        return t.abs()
    return torch.linalg.vector_norm(t, dim=tuple(range(1, t.dim())), keepdim=True, dtype=torch.float64).to(t.dtype)


def _into(out: Tensor, x_adv: Tensor, x: Tensor, grad: Tensor, *rest) -> None:
    order = _layout.order_of(x_adv)
    written = out if out.is_contiguous(memory_format=order) else torch.empty_like(out, memory_format=order)
    images = (_layout.in_order(t, order) for t in (x_adv, x, grad))
    backends.select("pgd_step", x.device.type)(written, *images, *rest)
    if written is not out:
        out.copy_(written)


def _new(x_adv: Tensor, *rest) -> Tensor:
    out = _fake(x_adv)
    _into(out, x_adv, *rest)
    return out


def _fake(x_adv: Tensor, *rest) -> Tensor:
    return torch.empty_like(x_adv, memory_format=_layout.order_of(x_adv))


_register.define_slot(f"pgd_step(Tensor(a!) out, {_ARGS}) -> ()", _reference)
_register.define_op(f"pgd_step({_ARGS}) -> Tensor", _new, _fake, batch=_register.rows)
_register.define_op(f"pgd_step_out(Tensor(a!) out, {_ARGS}) -> ()", _into, lambda *args: None)


def pgd_step(
    x_adv: Tensor,  # [N, ...]
    x: Tensor,  # [N, ...]
    grad: Tensor,  # [N, ...]
    eps: float | Tensor,  # radius in input units, scalar or [N]
    alpha: float | Tensor,  # step length in input units, scalar or [N]
    *,
    norm: str = "linf",
    lo: float = 0.0,
    hi: float = 1.0,
    active: Tensor | None = None,  # bool [N]
    out: Tensor | None = None,  # [N, ...]
) -> Tensor:
    """One PGD step: along the gradient, back into the ball around ``x``, back into the input range.

    L∞: ``clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi)`` with sign(0) = sign(NaN) = 0.
    L2: ``clamp(x + δ·min(1, ε/‖δ‖₂), lo, hi)`` with ``δ = x_adv + α·g/‖g‖₂ − x``; a sample whose gradient is zero or
    not finite takes no step.

    Args:
        x_adv, x, grad: adversarial inputs, natural inputs and input gradients, [N, ...], all float32, bfloat16 or
            float64 (bfloat16 is computed in float32 and rounded once); contiguous or channels_last tensors are read in place.
        eps, alpha: radius and step length in input units, a number or [N].
        norm: "linf" or "l2".
        lo, hi: input range.
        active: bool [N]; samples for which it is False are returned unchanged.
        out: where to write; may be ``x_adv`` itself.

    Returns:
        The next adversarial inputs, in the memory order of ``x_adv``; ``out`` if it was given. No gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes, devices or budgets that don't fit, naming both values.

    Deterministic. Never synchronises with the device. Source: Madry et al. 2018 (arXiv 1706.06083), eq. after (2.1).

    >>> x = torch.tensor([[0.5, 0.95]])
    >>> pgd_step(x, x, torch.tensor([[-3.0, 2.0]]), eps=0.1, alpha=0.2)
    tensor([[0.4000, 1.0000]])
    """
    args = _arguments(x_adv, x, grad, eps, alpha, norm, lo, hi, active)
    with torch.no_grad():
        if out is None:
            return torch.ops.ro_fast.pgd_step(*args)
        _check.check_images("pgd_step", x_adv=x_adv, out=out)
        _check.check_out("pgd_step", out, x_adv=x_adv, x=x, grad=grad)
        torch.ops.ro_fast.pgd_step_out(out, *args)
        return out


def _arguments(
    x_adv: Tensor,
    x: Tensor,
    grad: Tensor,
    eps: float | Tensor,
    alpha: float | Tensor,
    norm: str,
    lo: float,
    hi: float,
    active: Tensor | None,
) -> tuple:
    """A step's arguments, checked, in the form the schemas take."""
    op = "pgd_step"
    _check.check_images(op, x_adv=x_adv, x=x, grad=grad)
    _check.check_norm(op, norm)
    _check.check_range(op, lo, hi)
    eps_all, eps_n = _check.split_budget(op, "eps", eps, x, norm, lo, hi)
    alpha_all, alpha_n = _check.split_budget(op, "alpha", alpha, x, norm, lo, hi)
    if active is not None:
        _check.check_per_sample(op, "active", active, x)
        if active.dtype != torch.bool:
            raise TypeError(f"{op}: active is {active.dtype}; torch.bool is needed")
    return x_adv, x, grad, eps_all, alpha_all, eps_n, alpha_n, norm, lo, hi, active
