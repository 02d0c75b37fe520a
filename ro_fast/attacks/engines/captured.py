"""All steps of an attack as one CUDA graph: on a GPU, launching kernels takes longer than running them."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.engines.engine import Climb, Model, Plan, Start
from ro_fast.attacks.engines.trace import fingerprint
from ro_fast.ops._torch_private import any_hooks

_log = logging.getLogger("ro_fast")
_KEPT = 8  # graphs per model; further kinds of attack run step by step
_PENDING = 32  # kinds seen once that are remembered per model; bounded, since losses created anew each time would fill it

Replay = Callable[[], None]
Record = Callable[[Callable[[], Tensor], nn.Module], tuple[Tensor, Replay]]  # what to run, its model -> result, what repeats it


def record_on_gpu(run: Callable[[], Tensor], model: nn.Module) -> tuple[Tensor, Replay]:
    """Captures ``run`` as a CUDA graph; each replay overwrites the result's memory.

    Two warm-up runs on a side stream come first, in which libraries choose their kernels. The model's buffers, which BatchNorm
    updates in train mode, are restored afterwards.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            run()
        for buffer, before in buffers:
            buffer.copy_(before)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # By default it would fail if another thread, which reads images, takes memory meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        # Folding the weights is part of the graph, so that each replay sees their current values.
        result = run()
    return result, graph.replay


class Captured:
    """All steps as one CUDA graph, replayed with the current weights; captured when a kind of attack is requested a second time.

    Args:
        stepwise: the engine whose steps are captured.
        record: creates a graph; replaced in tests.
        device: type of the device that supports graphs.
    """

    def __init__(
        self, stepwise: Callable[[Model, Tensor, Plan], Any], record: Record = record_on_gpu, device: str = "cuda"
    ) -> None:
        self._stepwise, self._record, self._device = stepwise, record, device
        self._kinds: weakref.WeakKeyDictionary[nn.Module, dict[Any, Climb | str | None]] = weakref.WeakKeyDictionary()

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes modules on a GPU, unless a graph of that kind could not be captured, or there are too many already."""
        if x.device.type != self._device:
            return f"CUDA graphs need a GPU, but the inputs are on {x.device}"
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if any(any_hooks(module) for module in model.modules()):
            return "the model has hooks, which a graph replay would not call"
        kinds = self._kinds.get(model, {})
        known = kinds.get(self._kind(model, x, plan))
        if isinstance(known, str):
            return known
        if known is None and sum(isinstance(kind, _Graph) for kind in kinds.values()) >= _KEPT:
            return f"{_KEPT} kinds of attack on this model are already captured, and each holds memory"
        return None

    def came_before(self, model: nn.Module, x: Tensor, plan: Plan, note: bool = True) -> bool:
        """Whether this kind of attack was requested before: capturing one that comes only once costs more than it gains.

        With ``note`` it counts as requested from now on.
        """
        kinds, kind = self._kinds.setdefault(model, {}), self._kind(model, x, plan)
        known = kind in kinds
        if note and not known:
            kinds[kind] = None
            pending = [other for other, graph in kinds.items() if graph is None]
            for other in pending[: len(pending) - _PENDING]:
                del kinds[other]
        return known

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """The graph of this model, captured anew if its weights have moved to other memory."""
        assert isinstance(model, nn.Module)
        kinds, kind = self._kinds.setdefault(model, {}), self._kind(model, x, plan)
        graph = kinds.get(kind)
        if graph is None:
            there = weakref.ref(model)

            def climb(start: Start) -> Tensor:
                network = there()
                assert network is not None
                return self._stepwise(network, x, plan).prepare(network, x, plan)(start)

            graph = kinds[kind] = _Graph(climb, there, plan, self._record, lambda reason: kinds.update({kind: reason}))
        assert not isinstance(graph, str)
        return graph

    @staticmethod
    def _kind(model: nn.Module, x: Tensor, plan: Plan) -> Any:
        device = x.device.type
        where = tuple(t.data_ptr() for t in (*model.parameters(), *model.buffers()))
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        # Besides the memory, everything decided in Python, which a graph freezes: modes, attributes, forwards.
        return plan, x.shape, x.stride(), x.dtype, autocast, where, fingerprint(model, x)


class _Graph:
    """One captured climb: the start is copied into its memory, the graph is replayed, and the result is copied out."""

    def __init__(
        self, climb: Climb, model: weakref.ref[nn.Module], plan: Plan, record: Record, refused: Callable[[str], None]
    ) -> None:
        self._climb, self._model, self._plan, self._record, self._refused = climb, model, plan, record, refused
        self._graphs: dict[Any, tuple[Replay, Start, Tensor]] = {}

    def __call__(self, start: Start) -> Tensor:
        given = self._static(start)
        key = tuple(None if t is None else (t.shape, t.dtype) for t in vars(given).values())
        if key not in self._graphs:
            try:
                self._graphs[key] = self._captured(given)
            except (RuntimeError, torch.OutOfMemoryError) as error:
                reason = f"it could not be captured: {str(error).splitlines()[0][:200]}"
                _log.warning("this attack runs step by step from now on: %s", reason)
                self._refused(reason)
                return self._climb(start)
        replay, held, result = self._graphs[key]
        for ours, theirs in zip(vars(held).values(), vars(given).values(), strict=True):
            if ours is not None:
                ours.copy_(theirs)
        replay()
        return result.clone()

    def _captured(self, given: Start) -> tuple[Replay, Start, Tensor]:
        begun = time.perf_counter()
        copies: list[Any] = [None if t is None else t.clone() for t in vars(given).values()]
        held, model = Start(*copies), self._model()
        assert model is not None
        result, replay = self._record(lambda: self._climb(held), model)
        _log.info("engine captured: capturing a graph of %d steps took %.1f s", self._plan.steps, time.perf_counter() - begun)
        return replay, held, result

    @staticmethod
    def _static(start: Start) -> Start:
        """Budgets as tensors, so that another radius needs no new graph."""
        computed = torch.float64 if start.x.dtype == torch.float64 else torch.float32

        def each(budget: float | Tensor) -> Tensor:
            if isinstance(budget, Tensor):
                return budget.to(start.x.device, computed).expand(len(start.x))
            return torch.full((len(start.x),), budget, device=start.x.device, dtype=computed)  # no copy from the host

        return Start(start.x, start.y, each(start.eps), each(start.alpha), start.noise, start.active)
