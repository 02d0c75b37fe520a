"""What a network really computes: the ATen graph of its logits and its input gradient, as executed.

None of the network's own code is read. It is run once on tensors without values (torch's fake tensors), and the operators
that run are recorded, including hooks, patches, in-place operations and keyword arguments. Weights and buffers are
arguments of the graph, so each call sees their current values.
"""

from __future__ import annotations

import collections
import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize, vjp
from torch.fx.experimental.proxy_tensor import make_fx

from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.engines.batch_size import NotGeneral, for_any_batch
from ro_fast.ops._torch_private import any_hooks, fake_tensors

SIZES = (2, 3, 5)  # batch sizes traced to make a graph for any size


class NotTraced(Exception):
    """Says in one sentence why a network can't be traced."""


@dataclass(frozen=True)
class Traced:
    """The joint graph of a network: placeholders are its tensors, x and the logits' gradient; it returns logits and ∇ₓ.

    Each node's meta["val"] is a tensor without values: its shape for a batch of the first size traced.
    """

    graph: fx.Graph
    constants: dict[str, Tensor]  # that its forward creates from plain numbers
    batch: int | None  # the batch size it is valid for; None: any but 1


def tensors_of(model: nn.Module) -> list[Tensor]:
    """A network's current parameters and buffers, in the order of a graph's placeholders; graphs of them need no grad."""
    found: list[Tensor] = []
    for module in model.modules():
        found += [t for t in module._parameters.values() if t is not None]
        found += [t for t in module._buffers.values() if t is not None]
    return found


def _names(model: nn.Module) -> list[str]:
    """Their names, in the form torch.func.functional_call takes."""
    found = []
    for prefix, module in model.named_modules():
        own = (*module._parameters.items(), *module._buffers.items())
        found += [f"{prefix}.{name}" if prefix else name for name, t in own if t is not None]
    return found


def trace(model: nn.Module, x: Tensor, output: Output = None) -> Traced:
    """Traces a network for inputs like x [N, ...]: for any N beyond 1 if its graph allows it, otherwise for this N.

    Args:
        output: where the logits are in its return value (:func:`~ro_fast.attacks.answer.logits_of`).

    Raises:
        NotTraced: if the network does something a graph can't hold; gives the reason.
    """
    _check_traceable(model)
    if len(x) > 1:
        found = [_traced(model, _like(x, size), output) for size in SIZES]
        try:
            _check_equal([constants for _, constants in found])
            return Traced(for_any_batch([graph for graph, _ in found], SIZES), found[0][1], None)
        except NotGeneral:
            pass
    graph, constants = _traced(model, x, output)
    return Traced(graph, constants, len(x))


def _check_equal(constants: list[dict[str, Tensor]]) -> None:
    first = constants[0]
    for other in constants[1:]:
        if other.keys() != first.keys() or not all(torch.equal(first[name], other[name]) for name in first):
            raise NotGeneral


def _like(x: Tensor, size: int) -> Tensor:
    """An input of another batch size in the same memory order; its values are not read."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    new = x.new_empty(size, *x.shape[1:])
    return new.contiguous(memory_format=torch.channels_last) if last else new


def _traced(model: nn.Module, x: Tensor, output: Output) -> tuple[fx.Graph, dict[str, Tensor]]:
    names, tensors = _names(model), [t.detach() for t in tensors_of(model)]

    def joint(tensors: list[Tensor], x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        weights = dict(zip(names, tensors, strict=True))
        logits, back = vjp(lambda x: logits_of(functional_call(model, weights, (x,), tie_weights=False), output), x)[:2]
        if logits.shape != grad.shape:
            raise NotTraced("its output is not one tensor [N, C] for every batch size")
        return logits, back(grad)[0]

    try:
        with left_as_it_was(model), torch.enable_grad():
            with torch.no_grad(), fake_tensors() as mode:
                weights = {n: mode.from_tensor(t) for n, t in zip(names, tensors, strict=True)}
                shown = logits_of(functional_call(model, weights, (mode.from_tensor(x),)), output)
            if shown.dim() != 2 or len(shown) != len(x):
                raise NotTraced("its output is not one tensor [N, C]")
            grad = torch.empty(shown.shape, dtype=shown.dtype, device=x.device)
            module = make_fx(functionalize(joint), tracing_mode="fake")(tensors, x, grad)
    except NotTraced:
        raise
    except Exception as error:  # whatever the model's own code raises on tensors without values
        text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise NotTraced(f"it can't be run on tensors without values: {text.strip()[:200]}") from error
    _check_graph(module.graph)
    constants = {str(node.target): getattr(module, str(node.target)) for node in module.graph.nodes if node.op == "get_attr"}
    return module.graph, constants


def _check_traceable(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise NotTraced("it is a TorchScript module, which can only run as a whole")
    for name, module in model.named_modules():
        if any_hooks(module):
            raise NotTraced(f"{f'module {name!r}' if name else 'it'} has hooks, which may store what they see")


def _check_graph(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        target: Any = node.target
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()) and not _without_dropout(node):
            raise NotTraced(f"it draws random numbers ({target})")
        if getattr(target, "_schema", None) is not None and target._schema.is_mutable:
            raise NotTraced(f"its forward writes into its buffers ({target})")


def _without_dropout(node: fx.Node) -> bool:
    """Whether a fused attention, which could apply dropout, applies none."""
    target: Any = node.target
    for i, argument in enumerate(target._schema.arguments):
        if argument.name == "dropout_p":
            value = node.args[i] if i < len(node.args) else node.kwargs.get("dropout_p", argument.default_value)
            return bool(value == 0)
    return False


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Restores every module's attributes, including the contents of its lists and dictionaries, and torch's random state."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    kept = [(value, copy.copy(value)) for _, values in before for value in values.values() if isinstance(value, _CONTAINERS)]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for module, values in before:
                vars(module).clear()
                vars(module).update(values)
            for container, content in kept:
                container.clear()
                container.extend(content) if isinstance(container, (list, collections.deque)) else container.update(content)


_CONTAINERS = (list, dict, set, collections.deque)


# -- what a trace is valid for --------------------------------------------------------------------------------------------


def fingerprint(model: nn.Module, x: Tensor) -> tuple[Any, ...]:
    """What a trace freezes and can be looked up cheaply: modules, their forwards, modes, plain attributes, and the inputs' kind.

    What it can't see, such as a global variable read by forward, is left to the proofs.
    """
    return _kind(x), tuple((id(module), *_of_module(module), *_tensor_ids(module)) for module in model.modules())


def structure(model: nn.Module, x: Tensor) -> tuple[Any, ...] | None:
    """The same without identities, equal for networks built alike; None if an attribute is distinguished only by identity."""
    modules = list(model.modules())
    place = {id(module): i for i, module in enumerate(modules)}
    first: dict[int, int] = {}
    found = []
    for module in modules:
        about = _of_module(module)
        if _OPAQUE in about[3]:
            return None
        tied = tuple(first.setdefault(i, len(first)) for i in _tensor_ids(module))
        children = tuple((name, None if m is None else place[id(m)]) for name, m in module._modules.items())
        found.append((*about, tied, children))
    return _kind(x), tuple(found)


def _kind(x: Tensor) -> tuple[Any, ...]:
    device = x.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.shape[1:], x.dtype, x.device, last, len(x) == 1, autocast, torch.get_default_dtype()


_STRUCTURE = {"_parameters", "_buffers", "_modules"}
_OPAQUE = "?"


def _of_module(module: nn.Module) -> tuple[Any, ...]:
    """A module's type, forward, hooks and plain attributes, and its tensors' names, shapes and dtypes."""
    forward = None if isinstance(module, torch.jit.ScriptModule) else type(module).forward
    plain: list[Any] = []
    for key, value in vars(module).items():
        if key not in _STRUCTURE:
            plain += key, *_plain(value)
    for name, t in (*module._parameters.items(), *module._buffers.items()):
        plain += (name, None) if t is None else (name, t.shape, t.dtype)
    return type(module), forward, any_hooks(module), tuple(plain)


def _tensor_ids(module: nn.Module) -> tuple[int, ...]:
    return tuple(id(t) for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)


def _plain(value: Any) -> tuple[Any, ...]:
    """A value that can be compared, or its identity with a marker."""
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.dtype)):
        return (type(value), value)
    if isinstance(value, (list, tuple)) and len(value) <= 64:
        return (len(value), *(part for item in value for part in _plain(item)))
    if isinstance(value, (set, frozenset, dict)) and not value:
        return (0,)
    return _OPAQUE, id(value), len(value) if isinstance(value, (set, frozenset, dict)) else 0
