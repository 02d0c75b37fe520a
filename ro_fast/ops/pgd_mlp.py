"""All steps of L∞ PGD on a ReLU MLP in one call: forward, input gradient and step without leaving the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ro_fast.ops import _check, _register, backends
from ro_fast.ops.pgd_init import _reference as _init
from ro_fast.ops.pgd_step import _reference as _step

_SCHEMA = (
    "pgd_mlp(Tensor x, Tensor y, Tensor[] weights, Tensor[] biases, Tensor? noise, float eps, float alpha, "
    "Tensor? eps_n, Tensor? alpha_n, int steps, float lo, float hi) -> Tensor"
)


def _reference(
    x: Tensor,  # [N, D]
    y: Tensor,  # int64 [N]
    weights: list[Tensor],  # L of [out, in]
    biases: list[Tensor],  # L of [out]
    noise: Tensor | None,  # [N, D]
    eps: float,
    alpha: float,
    eps_n: Tensor | None,  # [N] in the compute dtype; replaces eps
    alpha_n: Tensor | None,  # [N]
    steps: int,
    lo: float,
    hi: float,
) -> Tensor:
    dtype = _check.compute_dtype(x)
    centre = x.to(dtype)
    weights, biases = [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]
    x_adv = centre.clone()
    if noise is not None:
        _init(x_adv, centre, noise, eps, eps_n, "linf", lo, hi)
    for _ in range(steps):
        grad = _input_gradient(x_adv, y, weights, biases)
        _step(x_adv, x_adv, centre, grad, eps, alpha, eps_n, alpha_n, "linf", lo, hi, None)
    return x_adv.to(x.dtype)


def _input_gradient(x_adv: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """∇ₓ of the summed cross-entropy, [N, D]."""
    inputs = [x_adv]  # of each layer
    for weight, bias in zip(weights[:-1], biases, strict=False):
        inputs.append(torch.relu(torch.nn.functional.linear(inputs[-1], weight, bias)))
    logits = torch.nn.functional.linear(inputs[-1], weights[-1], biases[-1])
    grad = torch.softmax(logits, dim=1) - torch.nn.functional.one_hot(y, logits.shape[1])
    for weight, hidden in zip(weights[:0:-1], inputs[:0:-1], strict=True):
        grad = torch.where(hidden <= 0, 0.0, grad @ weight)
    return grad @ weights[0]


def _new(x: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor], noise: Tensor | None, *rest) -> Tensor:
    run = backends.select("pgd_mlp", x.device.type)
    weights, biases = [w.contiguous() for w in weights], [b.contiguous() for b in biases]
    return run(x.contiguous(), y.contiguous(), weights, biases, None if noise is None else noise.contiguous(), *rest)


def _fake(x: Tensor, *rest) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_register.define_slot(_SCHEMA, _reference)
_register.define_op(_SCHEMA, _new, _fake)


def pgd_mlp(
    x: Tensor,  # [N, D]
    y: Tensor,  # int64 [N]
    weights: Sequence[Tensor],  # L of [out, in]
    biases: Sequence[Tensor | None] | None,  # L of [out]
    noise: Tensor | None,  # [N, D]
    *,
    eps: float | Tensor,  # radius in input units, scalar or [N]
    alpha: float | Tensor,  # step length in input units, scalar or [N]
    steps: int,
    lo: float = 0.0,
    hi: float = 1.0,
) -> Tensor:
    """All steps of L∞ PGD on an MLP with ReLU between its layers, in one call.

    ``x₀ = clamp(x + ε·u, lo, hi)``, then ``steps`` times
    ``x ← clamp(clamp(x + α·sign(∇ₓ CE(f(x), y)), x_natural − ε, x_natural + ε), lo, hi)`` with
    ``f(x) = W_L·relu(… relu(W_1·x + b_1) …) + b_L``: the same iterates as ``pgd_init`` and ``pgd_step`` with autograd.

    Args:
        x: natural inputs [N, D], float32, bfloat16 or float64; at least float32 between steps.
        y: classes int64 [N] in [0, C).
        weights: one [out, in] per layer, in order, in the dtype of x; the first takes D values, the last gives C logits.
            One layer is a linear model.
        biases: one [out] per layer, or None for a layer without one; None if no layer has one.
        noise: u, uniform in (−1, 1), [N, D] in the dtype of x; None starts at x itself.
        eps, alpha: radius and step length in input units, a number or [N].
        steps: gradient steps, at least 0.
        lo, hi: input range.

    Returns:
        The adversarial inputs [N, D], contiguous, in the dtype of x. No gradient flows.

    Raises:
        ValueError, TypeError: on shapes, dtypes, devices or budgets that don't fit, naming both values.

    Deterministic given ``noise``. Source: Madry et al. 2018 (arXiv 1706.06083), eq. after (2.1).

    >>> x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    >>> pgd_mlp(x, y, [torch.tensor([[1.0, -1.0], [-1.0, 1.0]])], None, None, eps=0.25, alpha=0.125, steps=3)
    tensor([[0.2500, 0.7500]])
    """
    op = "pgd_mlp"
    _check.check_images(op, x=x, **({} if noise is None else {"noise": noise}))
    if x.dim() != 2:
        raise ValueError(f"{op}: x has shape {list(x.shape)}; [N, D] is needed")
    _check.check_per_sample(op, "y", y, x)
    if y.dtype != torch.int64:
        raise TypeError(f"{op}: y is {y.dtype}; torch.int64 is needed")
    filled = _check_layers(op, x, weights, [None] * len(weights) if biases is None else biases)
    _check.check_range(op, lo, hi)
    eps_all, eps_n = _check.split_budget(op, "eps", eps, x, "linf", lo, hi)
    alpha_all, alpha_n = _check.split_budget(op, "alpha", alpha, x, "linf", lo, hi)
    if steps < 0:
        raise ValueError(f"{op}: steps = {steps} should be at least 0")
    with torch.no_grad():
        return torch.ops.ro_fast.pgd_mlp(
            x, y, list(weights), filled, noise, eps_all, alpha_all, eps_n, alpha_n, steps, lo, hi
        )


def _check_layers(op: str, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> list[Tensor]:
    """Checks layers that chain from D values to logits; returns the biases with zeros for those that are None."""
    if len(weights) == 0 or len(biases) != len(weights):
        raise ValueError(f"{op}: {len(weights)} weights and {len(biases)} biases; equally many of each, at least one, are needed")
    filled, width = [], x.shape[1]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.dim() != 2 or weight.shape[1] != width or len(weight) == 0:
            raise ValueError(f"{op}: weights[{layer}] has shape {list(weight.shape)}; [out, {width}] with out ≥ 1 is needed")
        width = len(weight)
        filled.append(weight.new_zeros(width) if bias is None else bias)
        if filled[-1].shape != (width,):
            raise ValueError(f"{op}: biases[{layer}] has shape {list(filled[-1].shape)}; [{width}] is needed")
        for name, tensor in ((f"weights[{layer}]", weight), (f"biases[{layer}]", filled[-1])):
            if tensor.dtype != x.dtype:
                raise TypeError(f"{op}: {name} is {tensor.dtype}, x is {x.dtype}; they should agree")
            if tensor.device != x.device:
                raise ValueError(f"{op}: {name} is on {tensor.device}, x on {x.device}; they should agree")
    return filled
