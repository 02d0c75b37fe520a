"""Forward, loss and input gradient as one full graph of torch.compile."""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.answer import logits_of
from ro_fast.attacks.engines.engine import Climb, Gradient, Model, Plan, climb_by
from ro_fast.ops._torch_private import trace_autograd

_log = logging.getLogger("ro_fast")


class Compiled:
    """Forward, loss and input gradient as one full graph of torch.compile, compiled at the first call for a shape."""

    def __init__(self) -> None:
        self._graphs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Gradient]] = weakref.WeakKeyDictionary()

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes whatever torch.compile takes; torch.compile itself reports what it doesn't."""
        return None if isinstance(model, nn.Module) else "the model is a function, not an nn.Module"

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """The graph of this model, which reads its current weights at each call."""
        assert isinstance(model, nn.Module)
        graphs = self._graphs.setdefault(model, {})
        key = (plan.loss, plan.output, plan.training, x.shape, x.dtype, torch.is_autocast_enabled(x.device.type))
        if key not in graphs:
            there = weakref.ref(model)  # a graph must not keep alive the model that owns it

            def eager(leaf: Tensor, y: Tensor) -> Tensor:
                return torch.autograd.grad(plan.loss(logits_of(there()(leaf), plan.output), y), leaf)[0]  # type: ignore[misc]

            graphs[key] = _told(torch.compile(eager, fullgraph=True, dynamic=False), "compiled: torch.compile took")
        return climb_by(graphs[key], plan)


def _told(compiled: Gradient, what: str) -> Gradient:
    """Logs the cost of the first call."""
    first = True

    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        nonlocal first
        start = time.perf_counter()
        leaf = x_adv.detach().requires_grad_()  # outside: Dynamo in torch 2.11 rejects it in a compiled function
        with trace_autograd(), torch.enable_grad():
            grad = compiled(leaf, y)
        if first:
            _log.info("engine %s %.1f s for a batch of shape %s", what, time.perf_counter() - start, list(x_adv.shape))
            first = False
        return grad

    return gradient
