"""Runs a rewritten network: prepares its weights once per attack, then computes logits and input gradients at each step."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ro_fast.attacks.engines import rewrite
from ro_fast.attacks.engines.trace import Traced


class Program:
    """A traced network, rewritten and split in four: what depends only on weights, logits with and without what their
    gradient needs, and that gradient.

    Args:
        traced: the network's joint graph; it is changed.
        rewritten: False keeps the graph as traced and only splits it.
    """

    def __init__(self, traced: Traced, rewritten: bool = True) -> None:
        graph = traced.graph
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        with graph.inserting_before(inputs[-2]):
            hint = graph.placeholder("batch_hint")
        self.applied: Counter[str] = rewrite.rewrite(graph, hint) if rewritten else Counter()
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        *held, x, grad = inputs
        constants = rewrite.constants_of(graph, hint)
        logits, input_grad = next(node for node in graph.nodes if node.op == "output").args[0]
        after = _depending_on(graph, grad)
        ahead = [n for n in graph.nodes if n not in constants and n not in after and n is not grad and n.op != "output"]
        behind = [node for node in graph.nodes if node in after]
        made = [node for node in graph.nodes if node in constants]
        made_outside = _read_by([*ahead, *behind], constants) | ({logits, input_grad} & constants)
        saved = _read_by(behind, set(ahead)) | ({input_grad} & set(ahead))
        self._made, self._saved = _in_order(graph, made_outside), _in_order(graph, saved)
        constant_tensors = traced.constants
        self._prepare = graph_function(made, held, self._made, constant_tensors)
        self._forward = graph_function(ahead, [*self._made, x], [logits, *self._saved])
        self._backward = graph_function(behind, [*self._made, grad], [input_grad], taken=self._saved)
        self._predict = graph_function(ahead, [*self._made, x], [logits], finish=rewrite.join_relu_with_convolution)

    def prepare(self, tensors: Iterable[Tensor], batch: int) -> tuple[Any, ...]:
        """What all steps of an attack share, computed from the network's current tensors."""
        return self._prepare(*tensors, batch)


class TracedNetwork:
    """Logits and input gradient of a network through its rewritten graph, with its current weights.

    Args:
        program: the network's program.
        tensors: its parameters and buffers, as ``tensors_of`` gives them.
        batch: the usual number of samples per call.

    Deterministic. The result equals eager torch's up to rounding: folding reorders sums.
    """

    def __init__(self, program: Program, tensors: Iterable[Tensor], batch: int, device: str) -> None:
        self._program, self._device = program, device
        with torch.no_grad(), _no_autocast(device):
            self._made = program.prepare(tensors, batch)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N, C], with nothing kept."""
        with _no_autocast(self._device):
            return self._program._predict(*self._made, x.detach())[0]

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """∇ₓ loss(logits(x)), in the dtype of x; loss is a scalar."""
        with torch.no_grad(), _no_autocast(self._device):
            logits, *saved = self._program._forward(*self._made, x.detach())
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(loss(logits.requires_grad_()), logits)
        with torch.no_grad(), _no_autocast(self._device):
            return self._program._backward(*self._made, grad, saved)[0].to(x.dtype)


def _no_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    """The casts of autocast are already in the graph."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def _depending_on(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    found = {source}
    for node in graph.nodes:
        if node.op != "output" and any(used in found for used in node.all_input_nodes):
            found.add(node)
    return found - {source}


def _take(held: list[Any], place: int) -> Any:
    value, held[place] = held[place], None
    return value


def _read_by(nodes: Iterable[fx.Node], among: set[fx.Node]) -> set[fx.Node]:
    return {used for node in nodes for used in node.all_input_nodes if used in among}


def _in_order(graph: fx.Graph, nodes: set[fx.Node]) -> list[fx.Node]:
    return [node for node in graph.nodes if node in nodes]


def graph_function(
    nodes: Iterable[fx.Node],
    inputs: list[fx.Node],
    outputs: Sequence[fx.Node | None],
    constants: dict[str, Tensor] | None = None,
    finish: Callable[[fx.Graph], None] | None = None,
    taken: list[fx.Node] | None = None,
) -> Callable[..., tuple[Any, ...]]:
    """A Python function of ``inputs`` that runs ``nodes`` and returns ``outputs``; values are freed after their last use.

    With ``taken``, one further argument is a list of those values, which the function empties: a plain argument is held by the
    caller, and what a gradient needs should be freed as soon as it was used, as autograd does.
    """
    graph, copied = fx.Graph(), {}
    for node in inputs:
        copied[node] = graph.placeholder(node.name)
        copied[node].meta = dict(node.meta)
    places = {node: i for i, node in enumerate(taken or ())}
    held = graph.placeholder("held") if taken is not None else None

    def take(needed: Iterable[fx.Node | None]) -> None:
        for node in needed:
            if node in places and node not in copied:
                copied[node] = graph.call_function(_take, (held, places[node]))

    for node in nodes:
        if node not in copied:
            take(node.all_input_nodes)
            copied[node] = graph.node_copy(node, copied.__getitem__)
    take(outputs)
    graph.output(tuple(None if node is None else copied[node] for node in outputs))
    graph.eliminate_dead_code()
    if finish is not None:
        finish(graph)
    root = nn.Module()
    for name, tensor in (constants or {}).items():
        setattr(root, name, tensor)
    return fx.GraphModule(root, graph).forward
