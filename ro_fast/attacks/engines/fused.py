"""The engine over a network's traced and rewritten graph, which is repeatedly compared with the network itself."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.engines.eager import input_gradient
from ro_fast.attacks.engines.engine import Climb, Gradient, Logits, Loss, Model, Plan, climb_by
from ro_fast.attacks.engines.mlp import MlpGraph, climb_mlp, mlp_layers, mlp_logits, read_mlp, why_not_mlp_attack
from ro_fast.attacks.engines.proof import agree, difference
from ro_fast.attacks.engines.rewrite import GAINING
from ro_fast.attacks.engines.run import Program, TracedNetwork
from ro_fast.attacks.engines.trace import NotTraced, Traced, fingerprint, structure, tensors_of, trace

_log = logging.getLogger("ro_fast")
_KEPT = 32  # traces per network, and of networks built alike; the least recently used goes first
_ALWAYS = 8  # the first calls, each of which is proven; later proofs take at most _SHARE of the time between them
_SHARE = 0.01


@dataclass
class Known:
    """What is known about a network for one kind of input: its graph, or why there is none, and the proofs it passed."""

    traced: Traced | None = None
    program: Program | None = None
    mlp: MlpGraph | str = ""  # or why it is not an MLP
    reason: str | None = None  # why it can't be attacked through its graph
    proofs: int = 0
    proof_seconds: float = 0.0  # of the last proof
    proven_at: float = 0.0

    def due(self) -> bool:
        """Whether the graph should be compared with the network again."""
        waited = time.perf_counter() - self.proven_at
        return self.proofs < _ALWAYS or waited * _SHARE > self.proof_seconds


class Traces:
    """The graphs of networks, keyed by what they are valid for; a network that is gone takes its graphs along."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, OrderedDict[Any, Known]] = weakref.WeakKeyDictionary()
        self._built: OrderedDict[Any, Known] = OrderedDict()
        self._looked: dict[Any, Known] | None = None  # per network, shape and output

    @contextlib.contextmanager
    def one_look(self, seen: dict[Any, Known] | None = None) -> Iterator[None]:
        """Within this context a network is examined once per kind of input, since choosing and using an engine change nothing.

        With ``seen`` given, what was examined in another block counts as known: nothing may have changed between the two.
        """
        outer = self._looked
        self._looked = outer if outer is not None else {} if seen is None else seen
        try:
            yield
        finally:
            self._looked = outer

    def of(self, model: nn.Module, x: Tensor, output: Output = None) -> Known:
        """What is known about a network for inputs like x; traces it now if it was not yet."""
        if self._looked is None:
            return self._of(model, x, output)
        place = id(model), x.shape, output
        if place not in self._looked:
            self._looked[place] = self._of(model, x, output)
        return self._looked[place]

    def _of(self, model: nn.Module, x: Tensor, output: Output) -> Known:
        try:
            known = self._known.setdefault(model, OrderedDict())
        except TypeError:
            return Known(reason="it can't be distinguished from other networks: its class defines __eq__ without __hash__")
        print_ = output, fingerprint(model, x)
        for key in (print_, (print_, len(x))):
            if key in known and (found := known[key]).traced is not None and found.traced.batch in (None, len(x)):
                known.move_to_end(key)
                return found
            if key in known and known[key].traced is None:
                return known[key]
        made = self._alike(model, x, output)
        key = print_ if made.traced is None or made.traced.batch is None else (print_, len(x))
        known[key] = made
        while len(known) > _KEPT:
            known.popitem(last=False)
        return made

    def _alike(self, model: nn.Module, x: Tensor, output: Output) -> Known:
        """The trace of a network built alike, as a suite's are, still to be proven for this one; otherwise traces it now."""
        alike = structure(model, x)
        built = None if alike is None else (output, alike)
        for key in (built, (built, len(x))):
            if built is not None and key in self._built:
                self._built.move_to_end(key)
                return dataclasses.replace(self._built[key])
        made = _traced(model, x, output)
        if built is not None:
            key = built if made.traced is None or made.traced.batch is None else (built, len(x))
            self._built[key] = dataclasses.replace(made)
            while len(self._built) > _KEPT:
                self._built.popitem(last=False)
        return made


def _traced(model: nn.Module, x: Tensor, output: Output) -> Known:
    begun = time.perf_counter()
    try:
        traced = trace(model, x, output)
    except NotTraced as error:
        _log.info("the network can't be traced and is attacked by autograd: %s", error)
        return Known(reason=str(error))
    mlp = read_mlp(traced)
    program = Program(traced)
    _log.info("traced the network for inputs %s in %.2f s: %s", list(x.shape), time.perf_counter() - begun, dict(program.applied))
    return Known(traced, program, mlp)


TRACES = Traces()


class Fused:
    """Autograd's graph of the network, rewritten: BatchNorm folded, ReLUs kept as bits, weights packed once per attack."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes networks in eval mode that can be traced and whose graph gives the same results."""
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if plan.training:
            return "a module is in train mode, where BatchNorm depends on the batch and can't be folded"
        if len(x) == 0:
            return "the batch is empty"
        known = TRACES.of(model, x, plan.output)
        if known.reason is None and known.due() and not _capturing(x):
            _prove(known, model, x, plan.output)
        return known.reason

    def functions(self, model: Model, x: Tensor, plan: Plan, loss: Loss) -> tuple[Logits, Gradient]:
        """Logits and input gradients with the current weights, folded and packed."""
        assert isinstance(model, nn.Module)
        networks = _Networks(model, x, plan.output)
        return networks, lambda x_adv, y: networks.gradient(x_adv, lambda logits: loss(logits, y))

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """Steps with the current weights."""
        return climb_by(self.functions(model, x, plan, plan.loss)[1], plan)

    def gains(self, model: nn.Module, x: Tensor, plan: Plan) -> bool:
        """Whether a pass with a gain applies to the network's graph; without one, autograd is as fast or a little faster."""
        known = TRACES.of(model, x, plan.output)
        return known.program is not None and any(name in known.program.applied for name in GAINING)

    def about(self, model: Model, x: Tensor, plan: Plan) -> str:
        """A text saying which passes applied to the network's graph and how often it was proven."""
        assert isinstance(model, nn.Module)
        known = TRACES.of(model, x, plan.output)
        passes = ", ".join(f"{name} ({count})" for name, count in known.program.applied.items()) if known.program else ""
        return f"{passes or 'no pass applies'}; checked against the network {known.proofs} times"


class _Networks:
    """A network's graphs within one attack, for all batch sizes that occur: usually one for any batch and one for one sample."""

    def __init__(self, model: nn.Module, x: Tensor, output: Output) -> None:
        self._model, self._batch, self._output = model, len(x), output
        self._any: TracedNetwork | None = None
        self._of_size: dict[int, TracedNetwork | None] = {}
        self._for(x)

    def __call__(self, x: Tensor) -> Tensor:
        network = self._for(x)
        if network is not None:
            return network(x)
        with torch.no_grad():
            return logits_of(self._model(x), self._output)

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        network = self._for(x)
        if network is not None:
            return network.gradient(x, loss)
        return input_gradient(self._model, lambda logits, _: loss(logits), self._output)(x, x)

    def _for(self, x: Tensor) -> TracedNetwork | None:
        if self._any is not None and len(x) != 1:
            return self._any
        if len(x) not in self._of_size:
            known = TRACES.of(self._model, x, self._output)
            if known.program is None or known.traced is None or known.reason is not None:
                self._of_size[len(x)] = None
            else:
                network = TracedNetwork(known.program, tensors_of(self._model), self._batch, x.device.type)
                if known.traced.batch is None:
                    self._any = network
                else:
                    self._of_size[len(x)] = network
                return network
        return self._of_size[len(x)]


def _prove(known: Known, model: nn.Module, x: Tensor, output: Output) -> None:
    assert known.program is not None and known.traced is not None
    begun = time.perf_counter()
    network = TracedNetwork(known.program, tensors_of(model), len(x), x.device.type)
    few = x if known.traced.batch is not None else x[:2]
    try:
        known.reason = difference(lambda inputs: logits_of(model(inputs), output), network, few)
    except RuntimeError as error:  # from the graph; one raised by the network itself comes again, from autograd
        known.reason = f"its traced graph does not run: {str(error).splitlines()[0][:200]}"
    if isinstance(known.mlp, MlpGraph) and known.reason is None:
        read = mlp_logits(*mlp_layers(model, x, (known.mlp, known.traced)), few)
        if not agree(read, network(few)):
            known.mlp = "the MLP read from its graph gives other results"
    known.proofs += 1
    known.proven_at = time.perf_counter()
    known.proof_seconds = known.proven_at - begun
    if known.reason is not None:
        _log.warning("the network is attacked by autograd from now on: %s", known.reason)


def _capturing(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


class Mlp:
    """All steps on an MLP in one call of pgd_mlp, one block of samples at a time in the cache."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes networks in eval mode whose graph is a ReLU MLP, for L∞ and cross-entropy, if there is a compiled backend."""
        reason = why_not_mlp_attack(model, x, plan)
        if reason is not None:
            return reason
        assert isinstance(model, nn.Module)
        known = TRACES.of(model, x, plan.output) if len(x) > 0 else Known(reason="the batch is empty")
        if known.reason is None and isinstance(known.mlp, str):
            return known.mlp
        reason = FUSED.why_not(model, x, plan)  # proves the graph, and what is read from it
        return known.mlp if reason is None and isinstance(known.mlp, str) else reason

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """Reads the current weights."""
        assert isinstance(model, nn.Module)
        known = TRACES.of(model, x, plan.output)
        assert isinstance(known.mlp, MlpGraph) and known.traced is not None
        return climb_mlp(*mlp_layers(model, x, (known.mlp, known.traced)), plan)


FUSED = Fused()
