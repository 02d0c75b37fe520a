"""All steps of an attack on an MLP in one call of ``pgd_mlp``, for networks whose graph is an MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ro_fast.attacks.engines.engine import Climb, Model, Plan, Start
from ro_fast.attacks.engines.run import graph_function
from ro_fast.attacks.engines.trace import NotTraced, Traced, tensors_of, trace
from ro_fast.installing import command
from ro_fast.ops import backends, pgd_mlp

aten = torch.ops.aten
_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.alias.default, aten.clone.default)
_ELEMENTWISE = (aten.add, aten.sub, aten.mul, aten.div)


class NotAnMLP(Exception):
    """Says in one sentence why a network can't be read as an MLP."""


@dataclass(frozen=True)
class MlpGraph:
    """How the layers of an MLP are obtained from a network's tensors, and the elementwise affine map before the first."""

    layers: Callable[..., tuple[Any, ...]]  # tensors -> W_1ᵀ, b_1, W_2ᵀ, …; None for a layer without bias
    before: Callable[..., tuple[Any, ...]]  # tensors, x -> s·x + t, [N, D]
    plain: bool  # whether that map is the identity


def read_mlp(traced: Traced) -> MlpGraph | str:
    """Reads the graph of a network as an MLP, or says why it is not one; the graph is not changed."""
    graph = traced.graph
    *held, x, _ = (node for node in graph.nodes if node.op == "placeholder")
    node: Any = next(node for node in graph.nodes if node.op == "output").args[0][0]
    layers: list[fx.Node | None] = []
    rectified = True
    try:
        while node.target in (aten.addmm.default, aten.mm.default, aten.relu.default):
            if node.target is aten.relu.default:
                if rectified:
                    raise NotAnMLP("it does not end in a linear layer")
                node, rectified = node.args[0], True
                continue
            if not rectified:
                raise NotAnMLP("two linear layers follow each other without a ReLU in between")
            bias, value, weight = (None, *node.args) if node.target is aten.mm.default else node.args
            if node.kwargs or not isinstance(value, fx.Node):
                raise NotAnMLP("a product in its graph is not a linear layer")
            layers[:0] = [weight, bias]
            node, rectified = value, False
        if not layers:
            raise NotAnMLP("it does not end in a linear layer")
        if rectified:
            raise NotAnMLP("a ReLU comes before its first linear layer")
        before = _affine_chain(node, x)
        # Only the chain before may depend on x: whatever a layer's weights are made of must not.
        weights = _sources([layer for layer in layers if layer is not None])
        if x in weights:
            raise NotAnMLP("a layer's weights depend on its input")
    except NotAnMLP as error:
        return str(error)
    made = graph_function((node for node in graph.nodes if node in weights), held, layers, traced.constants)
    chain = _sources([node])
    start = graph_function((other for other in graph.nodes if other in chain), [*held, x], [node], traced.constants)
    return MlpGraph(made, start, not any(other.target not in _RESHAPES for other in before))


def _affine_chain(node: Any, x: fx.Node) -> list[fx.Node]:
    """The nodes from x to the first layer, which flatten, or scale and shift each value by itself."""
    found = []
    while node is not x:
        packet = getattr(node.target, "overloadpacket", None)
        if node.op != "call_function" or not (node.target in _RESHAPES or packet in _ELEMENTWISE):
            raise NotAnMLP(f"its graph has {node.target if node.op == 'call_function' else node.op}, which an MLP does not have")
        others = [a for a in node.args[1:] if isinstance(a, fx.Node)]
        if node.target not in _RESHAPES and (node.kwargs or x in _sources(others)):
            raise NotAnMLP("its first layer reads more than an elementwise affine map of the input")
        found.append(node)
        node = node.args[0]
        if not isinstance(node, fx.Node):
            raise NotAnMLP("its first layer does not read its input")
    return found


def _sources(nodes: list[Any]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = [node for node in nodes if isinstance(node, fx.Node)]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def trace_mlp(model: nn.Module, x: Tensor) -> tuple[MlpGraph, Traced]:
    """Traces a network and reads it as an MLP.

    Raises:
        NotAnMLP: if it is not one, or can't be traced.
    """
    try:
        traced = trace(model, x)
    except NotTraced as error:
        raise NotAnMLP(str(error)) from error
    found = read_mlp(traced)
    if isinstance(found, str):
        raise NotAnMLP(found)
    return found, traced


@torch.no_grad()
def mlp_layers(
    model: nn.Module, x: Tensor, known: tuple[MlpGraph, Traced] | None = None
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The current weights [out, in] and biases [out] of an MLP for inputs ``x`` flattened to [N, D].

    Any elementwise affine map before the first layer, ``s·x + t``, is folded into it: ``W·diag(s)`` and ``b + W·t``.

    Args:
        model: a network whose graph is linear layers with ReLU between them, however its code is written.
        x: inputs [N, ...] of the kind to expect; their values are not read.
        known: the result of :func:`trace_mlp`, if it was traced before.

    Raises:
        NotAnMLP: on anything else.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> weights, biases = mlp_layers(model, torch.rand(1, 2, 2))
    >>> [list(w.shape) for w in weights]
    [[3, 4], [2, 3]]
    """
    graph, traced = known or trace_mlp(model, x)
    tensors = tensors_of(model)
    made = graph.layers(*tensors)
    weights, biases = [w.t() for w in made[::2]], list(made[1::2])
    if not graph.plain:
        size = traced.batch or 2
        (shift,), (end,) = (graph.before(*tensors, x.new_full((size, *x.shape[1:]), value)) for value in (0.0, 1.0))
        offset = weights[0] @ shift[0]
        biases[0] = offset if biases[0] is None else biases[0] + offset
        weights[0] = weights[0] * (end[0] - shift[0])
    return weights, biases


@torch.no_grad()
def mlp_logits(weights: list[Tensor], biases: list[Tensor | None], x: Tensor) -> Tensor:
    """The output of an MLP of these layers for inputs x [N, ...]: logits [N, C]."""
    h = x.flatten(1)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = torch.nn.functional.linear(h.relu() if i else h, weight, bias)
    return h


def climb_mlp(weights: list[Tensor], biases: list[Tensor | None], plan: Plan) -> Climb:
    """All steps of an attack on an MLP in one call."""

    def climb(start: Start) -> Tensor:
        x, noise = start.x, None if start.noise is None else start.noise.flatten(1)
        budget: dict[str, Any] = {"eps": start.eps, "alpha": start.alpha, "steps": plan.steps}
        budget |= {"lo": plan.box.lo, "hi": plan.box.hi}
        x_adv = pgd_mlp(x.flatten(1), start.y, weights, biases, noise, **budget).view(x.shape)
        if start.active is not None:
            x_adv = torch.where(start.active.view(-1, *[1] * (x.dim() - 1)), x_adv, x)
        return x_adv

    return climb


def why_not_mlp_attack(model: Model, x: Tensor, plan: Plan) -> str | None:
    """What an attack in one call can't take, besides networks that are not MLPs."""
    if not isinstance(model, nn.Module):
        return "the model is a function, not an nn.Module"
    if plan.box.by_channel or plan.spread:
        return "budget or range differ by channel, or the start lies outside the ball"
    if plan.box.norm != "linf" or not plan.cross_entropy:
        return "it supports only L∞ and the cross-entropy of hard labels"
    if plan.training:
        return "a module is in train mode"
    if torch.is_autocast_enabled(x.device.type):
        return "it computes in the dtype of the weights, but autocast requests another"
    if backends.running("pgd_mlp", x.device.type) == "reference":
        return f"pgd_mlp is not compiled (run: {command()} build)"
    return None
