"""The random start of PGD: noise scaled into the ball, then clipped to the range."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.ops import _check, _layout, _register, backends
from ro_fast.ops.pgd_step import _row_norm

_ARGS = "Tensor x, Tensor noise, float eps, Tensor? eps_n, str norm, float lo, float hi"


def _reference(
    out: Tensor,  # [N, ...] written
    x: Tensor,  # [N, ...]
    noise: Tensor,  # [N, ...]
    eps: float,
    eps_n: Tensor | None,  # [N] in the compute dtype; replaces eps
    norm: str,
    lo: float,
    hi: float,
) -> None:
    dtype = _check.compute_dtype(x)
    radius = eps if eps_n is None else eps_n.view((-1,) + (1,) * (x.dim() - 1))
    direction = noise.to(dtype)
    if norm == "l2":
        length = _row_norm(direction)
        direction = torch.where(length > 0, direction / length, 0.0)
    out.copy_((x.to(dtype) + radius * direction).clamp(lo, hi))


def _new(x: Tensor, noise: Tensor, *rest) -> Tensor:
    order = _layout.order_of(x)
    out = _fake(x)
    backends.select("pgd_init", x.device.type)(out, _layout.in_order(x, order), _layout.in_order(noise, order), *rest)
    return out


def _fake(x: Tensor, *rest) -> Tensor:
    return torch.empty_like(x, memory_format=_layout.order_of(x))


_register.define_slot(f"pgd_init(Tensor(a!) out, {_ARGS}) -> ()", _reference)
_register.define_op(f"pgd_init({_ARGS}) -> Tensor", _new, _fake, batch=_register.rows)


def pgd_init(
    x: Tensor,  # [N, ...]
    eps: float | Tensor,  # radius in input units, scalar or [N]
    noise: Tensor,  # [N, ...]
    *,
    norm: str = "linf",
    lo: float = 0.0,
    hi: float = 1.0,
) -> Tensor:
    """The start of PGD at a random point of the ball: ``clamp(x + ε·u, lo, hi)``.

    L∞: ``u = noise``, uniform in (−1, 1). L2: ``u = noise/‖noise‖₂`` from normal noise, uniform on the sphere (a uniform
    draw from the ball lies within 1 % of the sphere for images); pass ``eps`` [N] already scaled for a smaller start.

    Args:
        x, noise: natural inputs and noise, [N, ...], float32, bfloat16 or float64.
        eps: radius in input units, a number or [N].
        norm: "linf" or "l2".
        lo, hi: input range.

    Returns:
        The starting points, in the memory order of ``x``.

    Raises:
        ValueError, TypeError: on shapes, dtypes, devices or budgets that don't fit, naming both values.

    Deterministic given ``noise``. Source: Madry et al. 2018 (arXiv 1706.06083).

    >>> pgd_init(torch.tensor([[0.5, 0.0]]), 0.1, torch.tensor([[1.0, -1.0]]))
    tensor([[0.6000, 0.0000]])
    """
    _check.check_images("pgd_init", x=x, noise=noise)
    _check.check_norm("pgd_init", norm)
    _check.check_range("pgd_init", lo, hi)
    eps_all, eps_n = _check.split_budget("pgd_init", "eps", eps, x, norm, lo, hi)
    with torch.no_grad():
        return torch.ops.ro_fast.pgd_init(x, noise, eps_all, eps_n, norm, lo, hi)
