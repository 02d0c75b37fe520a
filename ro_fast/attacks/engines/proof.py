"""Does a traced graph agree with its network? Compares logits and one input gradient on a few samples with autograd's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ro_fast.attacks.engines.run import TracedNetwork

# Relative errors of logits and gradient that rounding explains: a value near a ReLU's kink may change its gradient.
_ROUNDING = {torch.float64: (1e-7, 1e-7), torch.float32: (1e-3, 2e-2)}
_COARSE = (0.1, 0.5)  # in bfloat16 and float16
_NUDGE = {torch.float64: 1e-15, torch.float32: 1e-6}  # a change of the inputs as small as a deep network's rounding
_NUDGES = 8  # directions and their opposites: a single one leaves a value on its side of a kink as often as not
_AS_MUCH = 4.0  # times the effect of the nudge on the network itself


def difference(model: Callable[[Tensor], Tensor], network: TracedNetwork, x: Tensor) -> str | None:
    """None if both agree up to rounding on samples x [n, ...], otherwise one sentence with the errors.

    The gradient is that of ``Σ c·logits`` with fixed c. If the network itself gives NaN or infinities, nothing is concluded.
    Deep networks with kinks amplify rounding: if the limits are exceeded, the errors are compared with how far the network's own
    results move at most when its inputs are nudged by about as much as rounding does, in several directions.
    """
    theirs, direction = _logits_and_gradient(model, x)
    ours = network(x), network.gradient(x, lambda z: (z * direction).sum())
    errors = [_error(*pair) for pair in zip(ours, theirs, strict=True)]
    limits = _ROUNDING.get(theirs[0].dtype, _COARSE)
    if _within(errors, limits):
        return None
    if x.dtype in _NUDGE:
        explained = list(limits)
        for i in range(_NUDGES):
            nudged = _logits_and_gradient(model, x * (1 + _NUDGE[x.dtype] * _signs(x, i)))[0]
            own = [_error(*pair) or 0.0 for pair in zip(nudged, theirs, strict=True)]
            explained = [max(limit, _AS_MUCH * moved) for limit, moved in zip(explained, own, strict=True)]
            if _within(errors, explained):
                return None
    told = [f"{error:.1g}" if error is not None else "none" for error in errors]
    return f"its traced graph differs from the network itself: relative error {told[0]} in the logits, {told[1]} in the gradient"


def _signs(x: Tensor, i: int) -> Tensor:
    """The i-th pattern of signs, shaped like x: random ones, each followed by its opposite; torch's random state stays."""
    drawn = torch.randint(2, x.shape, generator=torch.Generator().manual_seed(i // 2))
    return ((1 - 2 * drawn) * (1 - 2 * (i % 2))).to(x)


def _within(errors: Sequence[float | None], limits: Sequence[float]) -> bool:
    return all(error is None or error <= limit for error, limit in zip(errors, limits, strict=True))


def _logits_and_gradient(model: Callable[[Tensor], Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Logits and the gradient of Σ c·logits by autograd, and c."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        logits = model(leaf)
        direction = torch.cos(torch.arange(logits.numel(), device=x.device, dtype=torch.float32)).view(logits.shape)
        (grad,) = torch.autograd.grad((logits * direction).sum(), leaf)
    return (logits.detach(), grad), direction


def agree(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two computations of the same logits [n, C] differ by no more than rounding."""
    error = _error(ours, theirs)
    return error is None or error <= _ROUNDING.get(theirs.dtype, _COARSE)[0]


def _error(ours: Tensor, theirs: Tensor) -> float | None:
    a, b = ours.double(), theirs.double()
    if a.shape != b.shape:
        return float("inf")
    if not bool(b.isfinite().all()):
        return None
    return float((a - b).norm() / b.norm().clamp(min=1e-30)) if bool(a.isfinite().all()) else float("inf")
