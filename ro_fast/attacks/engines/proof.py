"""Does a traced graph give what its network gives? Logits and one input gradient on a few samples, against autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ro_fast.attacks.engines.run import TracedNetwork

# Relative errors of logits and of the gradient that rounding explains: a value near a ReLU's kink may turn its gradient.
_ROUNDING = {torch.float64: (1e-7, 1e-7), torch.float32: (1e-3, 2e-2)}
_COARSE = (0.1, 0.5)  # of bfloat16 and float16


def difference(model: nn.Module, network: TracedNetwork, x: Tensor) -> str | None:
    """None where both agree up to rounding on samples x [n, ...], else one sentence with the errors.

    The gradient is that of ``Σ c·logits`` with fixed c. Where the network itself gives NaN or infinities nothing is concluded.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        logits = model(leaf)
        if not isinstance(logits, Tensor):
            return "its output is no tensor any more"
        direction = torch.cos(torch.arange(logits.numel(), device=x.device, dtype=torch.float32)).view(logits.shape)
        (grad,) = torch.autograd.grad((logits * direction).sum(), leaf)
    ours = network.gradient(x, lambda z: (z * direction).sum())
    errors = [_error(network(x), logits.detach()), _error(ours, grad)]
    limits = _ROUNDING.get(logits.dtype, _COARSE)
    if all(error is None or error <= limit for error, limit in zip(errors, limits, strict=True)):
        return None
    told = [f"{error:.1g}" if error is not None else "none" for error in errors]
    return f"its traced graph differs from the network itself: relative error {told[0]} in the logits, {told[1]} in the gradient"


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
