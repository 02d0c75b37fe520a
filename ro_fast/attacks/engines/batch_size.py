"""One graph for any batch size, built from graphs traced at several sizes: numbers that grow with the batch follow it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx


class NotGeneral(Exception):
    """The graphs differ in more than numbers of the form a + b·N."""


def for_any_batch(graphs: Sequence[fx.Graph], sizes: Sequence[int]) -> fx.Graph:
    """The first graph, with each integer that differs between the graphs written as a + b·N.

    Args:
        graphs: of one network at different batch sizes; the last but one placeholder is the batch [N, ...].
        sizes: those batch sizes, at least three: two determine a and b, the others check them.

    Raises:
        NotGeneral: if the graphs differ otherwise: another operator, another order, a number not of the form a + b·N.
    """
    nodes = [list(graph.nodes) for graph in graphs]
    if len({len(each) for each in nodes}) != 1:
        raise NotGeneral
    place = [{node: i for i, node in enumerate(each)} for each in nodes]
    first = graphs[0]
    batch = _Batch(first, [node for node in nodes[0] if node.op == "placeholder"][-2])
    for same in zip(*nodes, strict=True):
        node = same[0]
        if any((other.op, other.target) != (node.op, node.target) for other in same) and node.op != "placeholder":
            raise NotGeneral
        values = [(other.args, other.kwargs) for other in same]
        node.args, node.kwargs = _unified(values, place, sizes, batch)
    first.lint()
    return first


class _Batch:
    """Creates nodes for a + b·N, each once, right after the placeholders."""

    def __init__(self, graph: fx.Graph, x: fx.Node) -> None:
        self.graph, self.x = graph, x
        self.made: dict[tuple[int, int], fx.Node] = {}
        self.size: fx.Node | None = None
        self.after = [node for node in graph.nodes if node.op == "placeholder"][-1]

    def __call__(self, a: int, b: int) -> fx.Node:
        if (a, b) not in self.made:
            if self.size is None:
                self.size = self._add(torch.ops.aten.sym_size.int, self.x, 0)
            node = self.size if b == 1 else self._add(operator.mul, self.size, b)
            self.made[a, b] = node if a == 0 else self._add(operator.add, node, a)
        return self.made[a, b]

    def _add(self, target: Any, *args: Any) -> fx.Node:
        with self.graph.inserting_after(self.after):
            self.after = self.graph.call_function(target, args)
        return self.after


def _unified(values: Sequence[Any], place: Sequence[dict[fx.Node, int]], sizes: Sequence[int], batch: _Batch) -> Any:
    first = values[0]
    if isinstance(first, fx.Node):
        if any(not isinstance(v, fx.Node) or place[i][v] != place[0][first] for i, v in enumerate(values)):
            raise NotGeneral
        return first
    if isinstance(first, (tuple, list)):
        if any(type(v) is not type(first) or len(v) != len(first) for v in values):
            raise NotGeneral
        items = [_unified(each, place, sizes, batch) for each in zip(*values, strict=True)]
        return tuple(items) if isinstance(first, tuple) else items
    if isinstance(first, dict):
        if any(v.keys() != first.keys() for v in values):
            raise NotGeneral
        return {key: _unified([v[key] for v in values], place, sizes, batch) for key in first}
    if all(type(v) is type(first) and v == first for v in values):
        return first
    if not all(type(v) is int for v in values):
        raise NotGeneral
    slope, rest = divmod(values[1] - first, sizes[1] - sizes[0])
    start = first - slope * sizes[0]
    if rest or any(v != start + slope * size for v, size in zip(values, sizes, strict=True)):
        raise NotGeneral
    return batch(start, slope)
