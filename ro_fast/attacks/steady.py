"""Are a model's outputs repeatable, and independent of the batch? If not, an attack climbs a moving target."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.borrow import networks_behind
from ro_fast.said import Said

_log = logging.getLogger("ro_fast")
_LOOKED_AT = 8  # samples
_ROUNDING = 1e-3  # relative difference of logits that summation order explains
_COARSE = 0.1  # in bfloat16 and float16
_seen: weakref.WeakSet[nn.Module] = weakref.WeakSet()

RANDOM = Said(
    "masking.random",
    "the model is random: two forwards of the same inputs differ, and an attack on one draw may miss the others; average the "
    "logits over draws (expectation over transformations) and attack that",
)
DEPENDENT = Said(
    "masking.dependent",
    "a sample's logits depend on the rest of its batch, so its robustness is not its own; is BatchNorm in train mode, or "
    "without running statistics?",
)


@torch.no_grad()
def doubts(model: Callable[[Tensor], Any], x: Tensor, output: Output = None) -> list[str]:
    """One sentence if two forward passes on a few samples differ, and one if a sample's logits change with the rest of the batch.

    Args:
        model: in the mode in which it is attacked; its buffers and torch's random state are restored.
        x: inputs [N, ...]; with a single sample, nothing can be said about dependence on the batch.
    """
    if isinstance(model, nn.Module):
        _seen.add(model)
    few = x[:_LOOKED_AT]
    buffers = [(b, b.clone()) for network in networks_behind(model) for b in network.buffers()]
    devices = [x.device.index or 0] if x.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        try:
            first, again, half = (logits_of(model(part), output) for part in (few, few, few[: (len(few) + 1) // 2]))
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
    if _differ(first, again):
        return [RANDOM]
    return [DEPENDENT] if _differ(first[: len(half)], half) else []


def warn_once(model: Callable[[Tensor], Any], x: Tensor, output: Output) -> None:
    """Logs the doubts about a network the first time it is attacked."""
    if not isinstance(model, nn.Module) or model in _seen or len(x) < 2:
        return
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    for doubt in doubts(model, x, output):
        _log.warning("PGD: %s", doubt)


def _differ(a: Tensor, b: Tensor) -> bool:
    limit = _ROUNDING if a.dtype in (torch.float32, torch.float64) else _COARSE
    if a.shape != b.shape:
        return True
    a, b = a.double(), b.double()
    return bool((a - b).norm() > limit * b.norm()) if bool(a.isfinite().all() and b.isfinite().all()) else False
