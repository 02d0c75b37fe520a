"""All steps of an attack as one CUDA graph."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.engines.engine import Climb, Model, Plan, Start

_log = logging.getLogger("ro_fast")


class Captured:
    """All steps as one CUDA graph, replayed with the weights as they are; captured at the first call for a shape."""

    def __init__(self, stepwise: Callable[[Model, Tensor, Plan], Any]) -> None:
        self._stepwise = stepwise  # the engine whose steps are captured
        self._graphs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Climb]] = weakref.WeakKeyDictionary()

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes modules on a GPU whose buffers an attack leaves alone."""
        if x.device.type != "cuda":
            return f"CUDA graphs need a GPU, the inputs are on {x.device}"
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if plan.training:
            return "a module is in train mode, in which BatchNorm's statistics would move while the graph is captured too"
        return None

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """The graph of this model, captured anew where its weights were moved to other memory."""
        assert isinstance(model, nn.Module)
        graphs = self._graphs.setdefault(model, {})
        where = tuple(t.data_ptr() for t in (*model.parameters(), *model.buffers()))
        autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
        key = (plan, x.shape, x.stride(), x.dtype, autocast, where)
        if key not in graphs:
            there = weakref.ref(model)
            graphs[key] = _Graph(lambda: self._stepwise(there(), x, plan).prepare(there(), x, plan), plan)  # type: ignore[arg-type]
        return graphs[key]


class _Graph:
    """One captured climb: the start is copied into its memory, the graph replayed, the result copied out."""

    def __init__(self, prepare: Callable[[], Climb], plan: Plan) -> None:
        self._prepare, self._plan = prepare, plan
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Start, Tensor]] = {}

    def __call__(self, start: Start) -> Tensor:
        given = self._static(start)
        key = tuple(None if t is None else (t.shape, t.dtype) for t in vars(given).values())
        if key not in self._graphs:
            begun = time.perf_counter()
            self._graphs[key] = self._capture(given)
            _log.info("engine captured: a graph of %d steps took %.1f s", self._plan.steps, time.perf_counter() - begun)
        graph, held, result = self._graphs[key]
        for ours, theirs in zip(vars(held).values(), vars(given).values(), strict=True):
            if ours is not None:
                ours.copy_(theirs)
        graph.replay()
        return result.clone()

    @staticmethod
    def _static(start: Start) -> Start:
        """Budgets as tensors, so that another radius needs no other graph."""
        computed = torch.float64 if start.x.dtype == torch.float64 else torch.float32

        def each(budget: float | Tensor) -> Tensor:
            if isinstance(budget, Tensor):
                return budget.to(start.x.device, computed).expand(len(start.x))
            return torch.full((len(start.x),), budget, device=start.x.device, dtype=computed)  # no copy from the host

        return Start(start.x, start.y, each(start.eps), each(start.alpha), start.noise, start.active)

    def _capture(self, given: Start) -> tuple[torch.cuda.CUDAGraph, Start, Tensor]:
        copies: list[Any] = [None if t is None else t.clone() for t in vars(given).values()]
        held = Start(*copies)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose their kernels and make their workspaces before the capture
            for _ in range(2):
                self._prepare()(held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            # Folding the weights is part of the graph, so that it sees them as they are at each replay.
            result = self._prepare()(held)
        return graph, held, result
