"""A network in eval mode as a list of fused layers with a hand-written input gradient, for attacks.

BatchNorm is folded into the convolution before it or joined with the ReLU after it, and what is kept for the backward is
one bit a ReLU. The network is read by torch.fx; where it holds anything not known here it is not fused, and why is told.
"""

from __future__ import annotations

import collections
import operator
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from ro_fast.attacks.engines.engine import Climb, Gradient, Loss, Model, Plan, climb_by
from ro_fast.attacks.engines.layers import Affine, AffineReLU, Conv, Flatten, Layer, Linear, MeanPool, WinogradConv, winograd_pays


class NotFused(Exception):
    """Says in one sentence why a network can't be fused."""


@dataclass
class _Op:
    """One layer to be: which module or function, on which values."""

    kind: str
    inputs: list[int]
    module: Any = None
    norm: nn.BatchNorm2d | None = None  # folded into a convolution


class FusedNetwork:
    """Logits and input gradient of a network in eval mode, for inputs of one shape; weights as they are now.

    Args:
        model: an nn.Module that torch.fx can read and that is made of convolutions, BatchNorm, ReLU, additions, linear
            layers, a mean over all positions, flattening, and modules with ``scale_and_shift()``.
        x: [N, ...] inputs as they will come; in autocast the network is cast beforehand, once.

    Raises:
        NotFused: on anything else.

    Deterministic. The result is eager torch's up to rounding: folding reorders sums.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        device = x.device.type
        self.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        self.layers: list[tuple[Layer | None, list[int]]] = []  # None adds two values
        with torch.no_grad(), torch.autocast(device, enabled=False):
            self._build(_plan(model), x)

    def _build(self, plan: list[_Op], x: Tensor) -> None:
        """Makes the layers while the forward of one sample shows their shapes."""
        values: list[Tensor] = [self._cast(x[:1])]
        for op in plan:
            inputs = [values[i] for i in op.inputs]
            shape = [len(x), *inputs[0].shape[1:]]
            layer = None if op.kind == "add" else _LAYERS[op.kind](op, shape, self.dtype)
            self.layers.append((layer, op.inputs))
            values.append(inputs[0] + inputs[1] if layer is None else layer.forward(inputs[0])[0])
        last_use = {i: at for at, (_, inputs) in enumerate(self.layers) for i in inputs}
        self._free = [[i for i, at in last_use.items() if at == here] for here in range(len(self.layers))]
        self._joined = self._convolutions_before_relu()

    def _convolutions_before_relu(self) -> dict[int, Conv | WinogradConv]:
        """By the ReLU's place the convolution before it, where only a plain ReLU takes what that gives."""
        uses = collections.Counter(i for _, inputs in self.layers for i in inputs)
        found: dict[int, Conv | WinogradConv] = {}
        for at, (layer, inputs) in enumerate(self.layers):
            before = self.layers[inputs[0] - 1][0] if inputs[0] > 0 else None
            alone = isinstance(layer, AffineReLU) and layer.plain and uses[inputs[0]] == 1
            if alone and isinstance(before, (Conv, WinogradConv)):
                found[at] = before
        return found

    def _cast(self, x: Tensor) -> Tensor:
        x = x.detach().to(self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits [N, C], with nothing kept and each ReLU within the convolution before it."""
        values: dict[int, Tensor] = {0: self._cast(x)}
        waiting = set(map(id, self._joined.values()))
        for at, ((layer, inputs), free) in enumerate(zip(self.layers, self._free, strict=True)):
            first = values[inputs[0]]
            if layer is None:
                values[at + 1] = first + values[inputs[1]]
            elif at in self._joined:
                values[at + 1] = self._joined[at].with_relu(first)
            else:
                values[at + 1] = first if id(layer) in waiting else layer.forward(first)[0]
            for i in free:
                del values[i]
        return values[len(self.layers)]

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """∇ₓ loss(logits(x)), in the dtype of x; loss is a scalar."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            logits, saved = self._forward(x)
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(loss(logits.requires_grad_()), logits)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self._backward(grad, saved).to(x.dtype)

    def _forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        values: dict[int, Tensor] = {0: self._cast(x)}
        saved: list[Any] = []
        for at, ((layer, inputs), free) in enumerate(zip(self.layers, self._free, strict=True)):
            first = values[inputs[0]]
            values[at + 1], kept = (first + values[inputs[1]], None) if layer is None else layer.forward(first)
            saved.append(kept)
            for i in free:
                del values[i]
        return values[len(self.layers)], saved

    def _backward(self, grad: Tensor, saved: list[Any]) -> Tensor:
        gathered: list[Tensor | None] = [None] * (len(self.layers) + 1)
        gathered[-1] = grad
        for at in reversed(range(len(self.layers))):
            layer, inputs = self.layers[at]
            arrived, gathered[at + 1] = gathered[at + 1], None
            if arrived is None:
                continue  # nothing depends on this value
            for i in inputs:
                gathered[i] = (layer or Layer()).backward(arrived, saved[at], gathered[i])
        assert gathered[0] is not None
        return gathered[0]


# -- layers of modules -------------------------------------------------------------------------------------------------


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """γ/√(σ² + ϵ) and β − μ·scale, in float64: they are few."""
    mean, var = norm.running_mean.double(), norm.running_var.double()  # type: ignore[union-attr]
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    return scale, -mean * scale if norm.bias is None else norm.bias.double() - mean * scale


def _conv(op: _Op, shape: list[int], dtype: torch.dtype) -> Layer:
    conv: nn.Conv2d = op.module
    weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    if op.norm is not None:
        scale, shift = _scale_and_shift(op.norm)
        bias = shift if bias is None else bias.double() * scale + shift
        weight = weight * scale.to(weight.dtype).view(-1, 1, 1, 1)
    weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.to(dtype)
    return WinogradConv(weight, bias) if winograd_pays(conv, weight, shape) else Conv(conv, weight, bias, shape)


def _affine_relu(op: _Op, shape: list[int], dtype: torch.dtype) -> Layer:
    if op.norm is None:
        return AffineReLU()
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    scale, shift = _scale_and_shift(op.norm)
    return AffineReLU(scale.to(computed), shift.to(computed))


def _affine(op: _Op, shape: list[int], dtype: torch.dtype) -> Layer:
    if isinstance(op.module, nn.BatchNorm2d):
        scale, shift = (t.view(-1, 1, 1) for t in _scale_and_shift(op.module))
    else:
        scale, shift = op.module.scale_and_shift()
    return Affine(scale.detach().to(dtype), shift.detach().to(dtype))


def _linear(op: _Op, shape: list[int], dtype: torch.dtype) -> Layer:
    linear: nn.Linear = op.module
    return Linear(linear.weight.detach().to(dtype), None if linear.bias is None else linear.bias.detach().to(dtype))


_LAYERS: dict[str, Callable[[_Op, list[int], torch.dtype], Layer]] = {
    "conv": _conv,
    "relu": _affine_relu,
    "affine": _affine,
    "linear": _linear,
    "pool": lambda op, shape, dtype: MeanPool(),
    "flatten": lambda op, shape, dtype: Flatten(),
}

# -- reading the network -----------------------------------------------------------------------------------------------

_plans: weakref.WeakKeyDictionary[nn.Module, tuple[Any, list[_Op]]] = weakref.WeakKeyDictionary()


def why_not_fused(model: nn.Module) -> str | None:
    """None where the network can be fused, else one sentence saying why not."""
    try:
        _plan(model)
    except NotFused as error:
        return str(error)
    return None


def _plan(model: nn.Module) -> list[_Op]:
    """The network's layers, read anew where its modules or their settings have changed."""
    state = _state(model)
    if model not in _plans or _plans[model][0] != state:
        _plans[model] = state, _Reader(model).read()
    return _plans[model][1]


def _state(model: nn.Module) -> list[Any]:
    """What tracing depends on: the modules and their plain attributes."""
    plain = (bool, int, float, str, tuple, type(None))
    return [(id(m), {k: v for k, v in vars(m).items() if isinstance(v, plain)}) for m in model.modules()]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "scale_and_shift") or super().is_leaf_module(m, module_qualified_name)


_SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout2d)  # as they are in eval mode


@dataclass
class _Reader:
    """Turns a traced graph into operations, joining what can be joined."""

    model: nn.Module
    ops: list[_Op] = field(default_factory=list)
    value_of: dict[fx.Node, int] = field(default_factory=dict)

    def read(self) -> list[_Op]:
        for name, m in self.model.named_modules():
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks:
                raise NotFused(f"module '{name}' has hooks")
        try:
            graph = _Tracer().trace(self.model)
        except Exception as error:  # whatever the model's own code raises on symbolic values
            raise NotFused(f"torch.fx can't read it: {str(error).splitlines()[0]}") from error
        inputs = 0
        for node in graph.nodes:
            if node.op == "placeholder":
                inputs += 1
                self.value_of[node] = 0
            elif node.op == "output":
                if inputs != 1 or node.args[0] not in self.value_of or self.value_of[node.args[0]] != len(self.ops):
                    raise NotFused("it has several inputs or outputs")
            else:
                self._add(node)
        return self.ops

    def _add(self, node: fx.Node) -> None:
        sources = [a for a in node.args if isinstance(a, fx.Node)]
        if any(a not in self.value_of for a in sources):
            raise NotFused(f"'{node.name}' uses a constant")
        values = [self.value_of[a] for a in sources]
        kind, module = self._kind(node)
        if kind == "skip":
            self.value_of[node] = values[0]
            return
        before = self.ops[values[0] - 1] if values[0] > 0 and len(sources[0].users) == 1 else None
        if kind == "affine" and isinstance(module, nn.BatchNorm2d) and before and before.kind == "conv" and not before.norm:
            before.norm = module
            self.value_of[node] = values[0]
        elif kind == "relu" and before and before.kind == "affine" and isinstance(before.module, nn.BatchNorm2d):
            before.kind, before.norm, before.module = "relu", before.module, None
            self.value_of[node] = values[0]
        else:
            self.ops.append(_Op(kind, values, module))
            self.value_of[node] = len(self.ops)

    def _kind(self, node: fx.Node) -> tuple[str, Any]:
        target: Any = node.target
        if node.op == "call_module":
            return self._kind_of_module(str(target), self.model.get_submodule(str(target)))
        if node.op == "call_function" and target in (operator.add, operator.iadd, torch.add) and len(node.args) == 2:
            return "add", None
        if target in (nn.functional.relu, torch.relu) or (node.op == "call_method" and target == "relu"):
            return "relu", None
        if target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs:
            return "flatten", None
        raise NotFused(f"'{node.name}' ({getattr(target, '__name__', target)}) is not known")

    def _kind_of_module(self, name: str, m: nn.Module) -> tuple[str, Any]:
        kind = type(m)
        if kind in _SKIPPED:
            return "skip", m
        if kind is nn.Conv2d and m.padding_mode == "zeros" and not isinstance(m.padding, str):
            return "conv", m
        if kind is nn.BatchNorm2d and m.running_mean is not None:
            return "affine", m
        if kind is nn.ReLU:
            return "relu", m
        if kind is nn.Linear:
            return "linear", m
        if kind is nn.AdaptiveAvgPool2d and m.output_size in (1, (1, 1)):
            return "pool", m
        if kind is nn.Flatten and (m.start_dim, m.end_dim) == (1, -1):
            return "flatten", m
        if hasattr(m, "scale_and_shift"):
            return "affine", m
        raise NotFused(f"module '{name}' ({kind.__name__}) is not known")


# -- the engine --------------------------------------------------------------------------------------------------------


class Fused:
    """The engine over :class:`FusedNetwork`: BatchNorm folded, ReLUs kept as bits, the input gradient by hand."""

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
