"""Rewrites a traced network for attacks: small passes over its joint graph, each of which leaves alone what it does not match.

The weights are constant during an attack, and only the input gradient is needed. A pass changes the graph's cost and
rounding, never the function; operators that no pass knows are kept.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ro_fast.attacks.engines import layers

aten = torch.ops.aten
Node = Any  # fx.Node, whose arguments have more types than a type checker can follow
_INPUT_ONLY = [True, False, False]  # the output mask of a backward that gives only the input's gradient
_OF_MEMORY_ORDER = ("strided", "_reshape_alias", "native_group_norm_backward")
_WORTH_BITS = 512  # values per sample from which a ReLU is kept as bits
_FRESH = (layers.conv, layers.conv_input_gradient, layers.relu_input_gradient)  # nothing else holds what they return


def rewrite(graph: fx.Graph, hint: Node) -> Counter[str]:
    """Applies every pass in place, and counts the matches of each.

    Args:
        graph: the joint graph of a network (:class:`~ro_fast.attacks.engines.trace.Traced`).
        hint: a placeholder for the batch size with which an attack begins.
    """
    applied: Counter[str] = Counter()
    without_strides(graph)
    for name, run in PASSES.items():
        if run is fold_batch_norm or not depends_on_memory_order(graph):
            applied[name] = run(graph, hint)
        graph.eliminate_dead_code()
    graph.lint()
    return +applied


def depends_on_memory_order(graph: fx.Graph) -> bool:
    """Whether an operator reads strides, or is wrong if its arguments differ in memory order, like GroupNorm's backward on CPUs.

    Passes that change memory order leave such a graph alone.
    """
    return any(part in str(node.target) for node in graph.nodes for part in _OF_MEMORY_ORDER)


def without_strides(graph: fx.Graph) -> None:
    """``as_strided`` that reads values in their own order → the values; a buffer so written and read → a ``reshape``.

    AdaptiveAvgPool2d(1) on channels-last images has both, forward and backward: its output has the strides of such images.
    """
    for node in _calls(graph, aten.as_strided.default):
        source, sizes, strides, *offset = node.args
        if any(offset) or not _plain_order(node.meta["val"].shape, strides):
            continue
        value, whole = source.meta["val"], node.meta["val"].numel()
        if source.target is aten.as_strided_scatter.default:
            buffer, written, _, scattered, *at = source.args
            full = written.meta["val"].numel() == whole == buffer.meta["val"].numel()
            if any(at) or not full or not _plain_order(written.meta["val"].shape, scattered):
                continue
            source = written.args[1] if written.target is aten.copy.default else written
        elif value.numel() != whole or not _plain_order(value.shape, value.stride()):
            continue
        with graph.inserting_before(node):
            new = graph.call_function(aten.reshape.default, (source, sizes))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
    graph.eliminate_dead_code()


def _plain_order(shape: Any, strides: Any) -> bool:
    """Whether strides are those of contiguous values; the stride of a dimension of size one says nothing."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def fold_batch_norm(graph: fx.Graph, hint: Node) -> int:
    """``native_batch_norm(convolution(x, W, b), …, training=False)`` → ``convolution(x, W·s, b·s + t)``; alone, ``s·x + t``.

    The gradient is then the convolution's with ``W·s``, or ``s·g``.
    """
    count, constants = 0, constants_of(graph, hint)
    for norm in _calls(graph, aten.native_batch_norm.default):
        x, weight, bias, mean, var, training, _, eps = norm.args
        backward = [
            user
            for user in x.users
            if user.target is aten.native_batch_norm_backward.default
            and (*user.args[1:5], user.args[7], user.args[9]) == (x, weight, mean, var, False, _INPUT_ONLY)
        ]
        y = _item(norm, 0)
        known = all(t is None or t in constants for t in (weight, bias, mean, var))
        others = [user for item in norm.users if item is not y for user in item.users if user not in backward]
        if training or y is None or mean is None or not known or others or _dtype(y) != _dtype(x):
            continue
        with graph.inserting_before(norm):
            both = graph.call_function(layers.scale_and_shift, (weight, bias, mean, var, eps))
            scale, shift = (graph.call_function(operator.getitem, (both, i)) for i in (0, 1))
            if _folds(x, norm, backward, constants):
                source = x.args[1].args[0] if x.args[1].target is aten._to_copy.default else x.args[1]
                own_weight = graph.call_function(layers.folded_weight, (source, scale, _dtype(x)))
                own_bias = graph.call_function(layers.folded_bias, (x.args[2], scale, shift, _dtype(x)))
                new = graph.call_function(aten.convolution.default, (x.args[0], own_weight, own_bias, *x.args[3:]))
            else:
                own_weight = None
                wide = [graph.call_function(layers.by_channel, (t, x.meta["val"].dim(), _dtype(x))) for t in (scale, shift)]
                new = graph.call_function(layers.affine, (x, *wide))
        new.meta = dict(y.meta)
        y.replace_all_uses_with(new)
        for back in backward:
            grad = _item(back, 0)
            if grad is None:
                continue
            if own_weight is None:
                with graph.inserting_before(back):
                    scaled = graph.call_function(aten.mul.Tensor, (back.args[0], wide[0]))
                scaled.meta = dict(grad.meta)
                grad.replace_all_uses_with(scaled)
            else:
                for user in list(grad.users):
                    user.update_arg(2, own_weight)
                grad.replace_all_uses_with(back.args[0])
        count += 1
    return count


def _folds(x: Any, norm: Node, backward: list[Node], constants: set[Node]) -> bool:
    """Whether BatchNorm's input is a convolution that nothing else reads, and its gradient goes only to that convolution."""
    if not isinstance(x, fx.Node) or x.target is not aten.convolution.default or x.args[6] or x.args[1] not in constants:
        return False
    if x.args[2] is not None and x.args[2] not in constants:
        return False
    if set(x.users) - {norm, *backward}:
        return False
    for back in backward:
        grad = _item(back, 0)
        for user in () if grad is None else grad.users:
            if user.target is not aten.convolution_backward.default or user.args[0] is not grad:
                return False
            if user.args[1:3] != x.args[:2] or user.args[10] != _INPUT_ONLY:
                return False
    return True


def bits_for_relu(graph: fx.Graph, hint: Node) -> int:
    """``relu(s·x + t)`` and ``threshold_backward`` → affine_relu and its gradient, which keep one bit per value."""
    count = 0
    for relu in _calls(graph, aten.relu.default):
        value, before = relu.meta["val"], relu.args[0]
        backward = [u for u in relu.users if u.target is aten.threshold_backward.default and u.args[1:] == (relu, 0)]
        if not backward or value.dim() < 2 or value[0].numel() < _WORTH_BITS or not value.is_floating_point():
            continue
        scale = shift = wide = None
        if before.target is layers.affine and len(before.users) == 1:
            x, wide, wide_shift = before.args
            scaled = [user for back in backward for user in back.users]
            if all(u.target is aten.mul.Tensor and u.args[1] is wide for u in scaled) and len(scaled) == len(backward):
                with graph.inserting_before(relu):
                    scale, shift = (
                        graph.call_function(layers.computed, (t.args[0], value.dtype)) for t in (wide, wide_shift)
                    )
        with graph.inserting_before(relu):
            both = graph.call_function(layers.relu_with_bits, (before if scale is None else x, scale, shift))
            y, saved = (graph.call_function(operator.getitem, (both, i)) for i in (0, 1))
        y.meta = dict(relu.meta)
        for back in backward:
            end = back if scale is None else next(iter(back.users))
            with graph.inserting_before(back):
                grad = graph.call_function(layers.relu_input_gradient, (back.args[0], saved, scale))
            grad.meta = dict(end.meta)
            end.replace_all_uses_with(grad)
        relu.replace_all_uses_with(y)
        count += 1
    return count


def prepare_convolutions(graph: fx.Graph, hint: Node) -> int:
    """2-D convolutions with constant weights, and their input gradients → packed once per attack, or the Winograd form."""
    count, constants = 0, constants_of(graph, hint)
    for node in _calls(graph, aten.convolution.default):
        x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
        if transposed or len(stride) != 2 or weight not in constants or (bias is not None and bias not in constants):
            continue
        if _dtype(node) not in (torch.float32, torch.float64, torch.bfloat16):
            continue
        backward = [
            user
            for user in weight.users
            if user.target is aten.convolution_backward.default
            and (user.args[1], user.args[2], *user.args[4:]) == (x, weight, *node.args[3:], _INPUT_ONLY)
        ]
        with graph.inserting_before(node):
            shape = [hint, *x.meta["val"].shape[1:]]
            prepared = graph.call_function(
                layers.prepared_conv, (weight, bias, shape, list(stride), list(padding), list(dilation), groups)
            )
            new = graph.call_function(layers.conv, (prepared, x))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        for back in backward:
            grad = _item(back, 0)
            if grad is not None:
                with graph.inserting_before(back):
                    own = graph.call_function(layers.conv_input_gradient, (prepared, back.args[0]))
                own.meta = dict(grad.meta)
                grad.replace_all_uses_with(own)
        count += 1
    return count


def relu_within_convolution(graph: fx.Graph, hint: Node) -> int:
    """``relu(convolution)`` on a CPU → fused into the convolution; the gradient reads the output, which is written once."""
    count = 0
    for relu in _calls(graph, aten.relu.default):
        before = relu.args[0]
        if before.target is not layers.conv or len(before.users) != 1 or relu.meta["val"].device.type != "cpu":
            continue
        before.target = layers.conv_relu
        relu.replace_all_uses_with(before)
        for user in _calls(graph, aten.threshold_backward.default):
            grad = user.args[0]
            if user.args[1:] == (before, 0) and grad.target in _FRESH and len(grad.users) == 1:
                user.target, user.args = layers.relu_gradient_into, (grad, before)
        count += 1
    return count


def lay_channels_last(graph: fx.Graph, hint: Node) -> int:
    """``view`` → ``reshape``, which takes any memory order; with convolutions, images are channels last from the input on."""
    nodes = list(graph.nodes)
    for node in nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
    if not any(node.target in (layers.conv, layers.conv_relu) for node in nodes):
        return 0
    x = [node for node in nodes if node.op == "placeholder"][-2]
    if x.meta["val"].dim() != 4:
        return 0
    with graph.inserting_before(next(node for node in nodes if node.op != "placeholder")):
        last = graph.call_function(layers.channels_last, (x,))
    last.meta = dict(x.meta)
    x.replace_all_uses_with(last, delete_user_cb=lambda user: user is not last)
    return 1


def mean_over_positions(graph: fx.Graph, hint: Node) -> int:
    """``mean(x, [-1, -2], keepdim=True)`` of images → a sum over a middle dimension, which is fast in channels-last order."""
    count = 0
    for node in _calls(graph, aten.mean.dim):
        x = node.args[0]
        value = x.meta["val"]
        if value.dim() == 4 and sorted(d % 4 for d in node.args[1]) == [2, 3] and node.args[2:] == (True,) and not node.kwargs:
            node.target, node.args = layers.mean_over_positions, (x,)
            count += 1
    return count


def sum_into_fresh(graph: fx.Graph, hint: Node) -> int:
    """``a + b``, where a was just created and nothing else reads it → written into a, or added within a ReLU's gradient."""
    count, order = 0, {node: i for i, node in enumerate(graph.nodes)}
    for node in _calls(graph, aten.add.Tensor):
        if node.kwargs or len(node.args) != 2 or not all(isinstance(a, fx.Node) for a in node.args):
            continue
        for a, b in (node.args, node.args[::-1]):
            values = a.meta.get("val"), b.meta.get("val")
            alike = None not in values and (values[0].shape, values[0].dtype) == (values[1].shape, values[1].dtype)
            if a.target not in _FRESH or len(a.users) != 1 or a is b or not alike:
                continue
            if a.target is layers.relu_input_gradient and len(a.args) == 3 and order[b] < order[a]:
                a.args = (*a.args, b)
                node.replace_all_uses_with(a)
            else:
                node.target, node.args = layers.add_into, (a, b)
            count += 1
            break
    return count


def join_relu_with_convolution(graph: fx.Graph) -> None:
    """In a graph of logits alone: fuses a ReLU into the convolution before it, and keeps no bits."""
    for node in _calls(graph, layers.relu_with_bits):
        y, (x, scale, _) = _item(node, 0), node.args
        if y is None or scale is not None:
            continue
        with graph.inserting_before(node):
            if x.target is layers.conv and len(x.users) == 1:
                new = graph.call_function(layers.conv_relu, x.args)
            else:
                new = graph.call_function(aten.relu.default, (x,))
        y.replace_all_uses_with(new)
    graph.eliminate_dead_code()


PASSES: dict[str, Callable[[fx.Graph, Node], int]] = {
    "BatchNorm folded": fold_batch_norm,
    "convolutions prepared": prepare_convolutions,
    "ReLU within convolutions": relu_within_convolution,
    "bits for ReLU": bits_for_relu,
    "channels last": lay_channels_last,
    "mean over positions": mean_over_positions,
    "sums in place": sum_into_fresh,
}


# The others alone gave 0.98 to 1.01 of autograd's speed on networks with neither (ConvNeXt, EdgeNeXt, Swin, on a CPU).
GAINING = ("BatchNorm folded", "ReLU within convolutions", "bits for ReLU")


def constants_of(graph: fx.Graph, hint: Node) -> set[Node]:
    """What depends only on the network's tensors, and is therefore the same for all steps of an attack."""
    *_, x, grad = (node for node in graph.nodes if node.op == "placeholder")
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "output" or node in (x, grad):
            continue
        if all(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _calls(graph: fx.Graph, target: Any) -> list[Node]:
    return [node for node in graph.nodes if node.op == "call_function" and node.target is target]


def _item(node: Node, index: int) -> Node | None:
    return next((user for user in node.users if user.target is operator.getitem and user.args[1] == index), None)


def _dtype(node: Node) -> torch.dtype:
    return node.meta["val"].dtype
