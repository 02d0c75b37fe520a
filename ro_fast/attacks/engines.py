"""How PGD climbs: engines that take the same steps at different cost.

An engine says in ``why_not`` what it can't take, and in ``prepare`` makes ready for one attack on the model as it is now: it
returns the function that climbs from a start. ``auto`` takes the first of :data:`AUTO` that can.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast import backends
from ro_fast.attacks.fuse import FusedNetwork, why_not_fused
from ro_fast.attacks.mlp import mlp_layers, why_not_mlp
from ro_fast.ops import pgd_init, pgd_mlp, pgd_step

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # logits, y -> the sum over samples
Gradient = Callable[[Tensor, Tensor], Tensor]  # x_adv, y -> ∇ₓ in the dtype of x_adv

_log = logging.getLogger("ro_fast")


@dataclass(frozen=True)
class Plan:
    """What is the same for all restarts of an attack."""

    loss: Loss
    norm: str
    steps: int
    training: bool  # whether any module is in train mode meanwhile
    cross_entropy: bool  # whether the loss is that of hard labels


@dataclass(frozen=True)
class Start:
    """Where one climb begins, and how far it may go."""

    x: Tensor  # [N, ...] natural inputs
    y: Tensor
    eps: float | Tensor
    alpha: float | Tensor
    noise: Tensor | None  # [N, ...]; None starts at x
    active: Tensor | None  # bool [N]


Climb = Callable[[Start], Tensor]


def climb_by(gradient: Gradient, plan: Plan) -> Climb:
    """The loop of PGD over a function that gives input gradients."""

    def climb(start: Start) -> Tensor:
        x, active = start.x, start.active
        x_adv = x.clone() if start.noise is None else pgd_init(x, start.eps, start.noise, norm=plan.norm)
        if active is not None and start.noise is not None:
            x_adv = torch.where(active.view(-1, *[1] * (x.dim() - 1)), x_adv, x)
        for _ in range(plan.steps):
            grad = gradient(x_adv, start.y)
            pgd_step(x_adv, x, grad, start.eps, start.alpha, norm=plan.norm, active=active, out=x_adv)
        return x_adv

    return climb


class Eager:
    """Autograd through the model as it is."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes everything."""
        return None

    def functions(self, model: Model, x: Tensor, loss: Loss) -> tuple[Model, Gradient]:
        """Logits without a graph, and input gradients."""
        return torch.no_grad()(lambda inputs: model(inputs)), _autograd(model, loss)

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """One forward and one backward of autograd a step."""
        return climb_by(_autograd(model, plan.loss), plan)


def _autograd(model: Model, loss: Loss) -> Gradient:
    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x_adv.detach().requires_grad_()
            (grad,) = torch.autograd.grad(loss(model(leaf), y), leaf)
        return grad

    return gradient


class Fused:
    """BatchNorm folded, ReLUs kept as bits, the input gradient by hand: :mod:`ro_fast.attacks.fuse`."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes networks in eval mode whose layers it knows."""
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if plan.training:
            return "a module is in train mode, in which BatchNorm depends on the batch and can't be folded"
        return why_not_fused(model)

    def functions(self, model: Model, x: Tensor, loss: Loss) -> tuple[Model, Gradient]:
        """Logits and input gradients with the weights as they are now, folded and packed."""
        assert isinstance(model, nn.Module)
        network = FusedNetwork(model, x)
        return network, lambda x_adv, y: network.gradient(x_adv, lambda logits: loss(logits, y))

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """Steps with the weights as they are now."""
        return climb_by(self.functions(model, x, plan.loss)[1], plan)


class Compiled:
    """Forward, loss and input gradient as one full graph of torch.compile, compiled at the first call for a shape."""

    def __init__(self) -> None:
        self._graphs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Gradient]] = weakref.WeakKeyDictionary()

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes what torch.compile takes, which says itself what it doesn't."""
        return None if isinstance(model, nn.Module) else "the model is a function, not an nn.Module"

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """The graph of this model, which reads its weights anew at each call."""
        assert isinstance(model, nn.Module)
        graphs = self._graphs.setdefault(model, {})
        key = (plan.loss, plan.training, x.shape, x.dtype, torch.is_autocast_enabled(x.device.type))
        if key not in graphs:
            there = weakref.ref(model)  # a graph must not keep alive the model that keeps the graph

            def loss(leaf: Tensor, y: Tensor) -> Tensor:
                return plan.loss(there()(leaf), y)  # type: ignore[misc]

            graphs[key] = _told(_compiled(loss), "compiled: torch.compile took")
        return climb_by(graphs[key], plan)


def _compiled(loss: Gradient) -> Gradient:
    """The input gradient of a loss, compiled; the leaf is made outside, since torch 2.11 refuses requires_grad_() inside."""

    def inside(leaf: Tensor, y: Tensor) -> Tensor:
        return torch.autograd.grad(loss(leaf, y), leaf)[0]

    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        traced = torch._dynamo.config.patch(trace_autograd_ops=True)(torch.compile(inside, fullgraph=True, dynamic=False))
    else:  # torch 2.10 compiles forward and backward as two graphs
        forward = torch.compile(loss, fullgraph=True, dynamic=False)

        def traced(leaf: Tensor, y: Tensor) -> Tensor:
            return torch.autograd.grad(forward(leaf, y), leaf)[0]

    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            return traced(x_adv.detach().requires_grad_(), y)

    return gradient


def _told(compiled: Gradient, what: str) -> Gradient:
    """Logs what the first call cost."""
    first = True

    def gradient(x_adv: Tensor, y: Tensor) -> Tensor:
        nonlocal first
        start = time.perf_counter()
        grad = compiled(x_adv, y)
        if first:
            _log.info("engine %s %.1f s for a batch %s", what, time.perf_counter() - start, list(x_adv.shape))
            first = False
        return grad

    return gradient


class Captured:
    """All steps as one CUDA graph, replayed with the weights as they are; captured at the first call for a shape."""

    def __init__(self) -> None:
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
            graphs[key] = _Graph(lambda: stepwise(there(), x, plan).prepare(there(), x, plan), plan)  # type: ignore[arg-type]
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


class Mlp:
    """All steps on an MLP in one call of pgd_mlp, a block of samples at a time in the cache."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes ReLU MLPs in eval mode, L∞ and cross-entropy, where a compiled backend is."""
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if plan.norm != "linf" or not plan.cross_entropy:
            return "it takes L∞ and the cross-entropy of hard labels only"
        if plan.training:
            return "a module is in train mode"
        if torch.is_autocast_enabled(x.device.type):
            return "it computes in the dtype of the weights, and autocast asks for another"
        if backends.running("pgd_mlp", x.device.type) == "reference":
            return "no compiled pgd_mlp is here (run: ro-fast build)"
        return why_not_mlp(model, x)

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """Reads the weights as they are now."""
        assert isinstance(model, nn.Module)
        weights, biases = mlp_layers(model, x)

        def climb(start: Start) -> Tensor:
            noise = None if start.noise is None else start.noise.flatten(1)
            budget: dict[str, Any] = {"eps": start.eps, "alpha": start.alpha, "steps": plan.steps}
            x_adv = pgd_mlp(start.x.flatten(1), start.y, weights, biases, noise, **budget).view(start.x.shape)
            if start.active is not None:
                x_adv = torch.where(start.active.view(-1, *[1] * (x.dim() - 1)), x_adv, start.x)
            return x_adv

        return climb


ENGINES: dict[str, Any] = {"eager": Eager(), "mlp": Mlp(), "fused": Fused(), "compiled": Compiled(), "captured": Captured()}
AUTO = ("mlp", "fused", "eager")


def choose(name: str, model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine of that name, or for "auto" the first of AUTO that can take the model.

    Raises:
        ValueError: where the named one can't, with its reason.
    """
    if name == "auto":
        return next(ENGINES[other] for other in AUTO if ENGINES[other].why_not(model, x, plan) is None)
    reason = ENGINES[name].why_not(model, x, plan)
    if reason is not None:
        raise ValueError(f"PGD: engine '{name}' can't attack this model: {reason}; engine 'auto' takes one that can")
    return ENGINES[name]


def stepwise(model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine whose single gradients can be had: fused where it can, else eager."""
    return next(ENGINES[name] for name in ("fused", "eager") if ENGINES[name].why_not(model, x, plan) is None)


def explain(name: str, model: Model, x: Tensor, plan: Plan) -> str:
    """Tells in a few lines which engine runs, and why each other one does or doesn't."""
    reasons = {other: engine.why_not(model, x, plan) for other, engine in ENGINES.items()}
    chosen = name if name != "auto" else next(other for other in AUTO if reasons[other] is None)
    lines = [f"engine: {chosen}" + ("" if name == "auto" else " (named)")]
    for other, reason in reasons.items():
        lines.append(f"  {other}: {reason or ('available' if other in AUTO else 'available where it is named')}")
    return "\n".join(lines)
