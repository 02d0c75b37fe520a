"""The traced engine attacks the function that runs, on any network, or says why it does not; never silently another one."""

from __future__ import annotations

import copy
import gc
import io
import random
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import BLOCKS, RandomNetwork
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.engines import rewrite
from ro_fast.attacks.engines.fused import TRACES
from ro_fast.attacks.engines.proof import difference
from ro_fast.attacks.engines.run import Program, TracedNetwork
from ro_fast.attacks.engines.trace import NotTraced, tensors_of, trace

DTYPE = torch.float64


def images(n: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, dtype=DTYPE, generator=generator), torch.arange(n) % 5


def relative_error(model: nn.Module, network: TracedNetwork, x: Tensor) -> float:
    """The larger error of logits and of an input gradient."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    direction = torch.linspace(-1, 1, logits.numel(), dtype=DTYPE).view_as(logits)
    (grad,) = torch.autograd.grad((logits * direction).sum(), leaf)
    pairs = (network(x), logits.detach()), (network.gradient(x, lambda z: (z * direction).sum()), grad)
    return max(((a - b).norm() / b.norm().clamp(min=1e-12)).item() for a, b in pairs)


def steps_of(model: nn.Module, engine: str = "auto", n: int = 3) -> Tensor:
    x, y = images(n)
    noise = torch.rand(x.shape, dtype=DTYPE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return PGD(0.1, 0.03, 3, engine=engine)(model, x, y, noise=noise)


def same_steps(model: nn.Module, n: int = 3) -> bool:
    return torch.allclose(steps_of(model, n=n), steps_of(model, "eager", n), rtol=0, atol=1e-12)


# -- random networks ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[512, 1], ids=["as it is", "bits for every ReLU"])
def bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "_WORTH_BITS", request.param)


def check_random_network(seed: int) -> None:
    network, (x, _) = RandomNetwork(seed), images(2 + seed % 4)
    if seed % 3 == 0:
        network, x = network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    traced = trace(network, x)
    fused = TracedNetwork(Program(traced), tensors_of(network), len(x), "cpu")
    others = [x] if traced.batch else [x, images(7, 1)[0]]
    for batch in others:
        assert relative_error(network, fused, batch) < 1e-9, f"seed {seed}: {network.kinds}, {network.head}"


@pytest.mark.usefixtures("bits")
@pytest.mark.parametrize("block", range(10))
def test_random_networks(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        check_random_network(seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("block", range(100))
def test_many_random_networks(block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check_random_network(seed)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_each_kind_of_block_takes_the_steps_of_autograd(kind: str) -> None:
    network = RandomNetwork(0)
    network.kinds, network.blocks = [kind], nn.ModuleList([BLOCKS[kind](random.Random(1), network.width)])
    network.double().eval()
    assert torch.allclose(steps_of(network, "fused"), steps_of(network, "eager"), rtol=0, atol=1e-12)


# -- passes --------------------------------------------------------------------------------------------------------------------


def applied(model: nn.Module) -> dict[str, int]:
    return dict(Program(trace(model.double().eval(), images()[0])).applied)


def test_batch_norm_is_folded_only_into_a_convolution_that_nothing_else_reads() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x)
            return self.head((self.norm(h) + h).mean((2, 3)))

    model = Read()
    nn.init.normal_(model.norm.weight)
    assert applied(model)["BatchNorm folded"] == 1
    assert same_steps(model)


def test_a_pass_that_does_not_match_leaves_the_graph_alone() -> None:
    assert applied(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Softplus())) == {}


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_passes_apply_in_any_memory_order_of_the_inputs(order: torch.memory_format) -> None:
    """AdaptiveAvgPool2d(1) on channels-last images reads and writes by strides, forward and backward."""
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    model, x = nn.Sequential(*layers).double().eval().to(memory_format=order), images()[0].contiguous(memory_format=order)
    traced = trace(model, x)
    found = Program(traced).applied
    assert found["BatchNorm folded"] == found["convolutions prepared"] == found["ReLU within convolutions"] == 1
    assert not rewrite.depends_on_memory_order(traced.graph) and traced.batch is None


class Attention(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout, self.inner, self.head = dropout, nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).flatten(2).transpose(1, 2)
        return self.head(F.scaled_dot_product_attention(h, h, h, dropout_p=self.dropout).mean(1))


def test_attention_is_traced_unless_it_drops_values_at_random() -> None:
    model, x = Attention(0.0).double().eval(), images()[0]
    assert relative_error(model, TracedNetwork(Program(trace(model, x)), tensors_of(model), len(x), "cpu"), x) < 1e-9
    with pytest.raises(NotTraced, match="random"):
        trace(Attention(0.5).double().eval(), x)


def test_a_network_without_anything_to_gain_is_left_to_autograd() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Softplus()).double().eval()
    told = PGD().explain(model, images()[0])
    assert told.startswith("engine: eager") and "no pass that would speed it up applies to the network's graph" in told
    assert same_steps(model) and torch.allclose(steps_of(model, "fused"), steps_of(model, "eager"), rtol=0, atol=1e-12)


# -- what tracing freezes ------------------------------------------------------------------------------------------------------


class Switched(nn.Module):
    """Convolutions in a list, a stride, a flag and a global, any of which may change between calls."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)])
        self.norm, self.head, self.negate = nn.BatchNorm2d(4), nn.Linear(4, 5), False
        self.scales = [1.0, 2.0]

    def forward(self, x: Tensor) -> Tensor:
        for layer, scale in zip(self.layers, self.scales, strict=False):
            x = scale * layer(x)
        x = self.norm(x).mean((2, 3)) * FACTOR["now"]
        return self.head(-x if self.negate else x)


FACTOR = {"now": 1.0}


def _change_class(model: Switched) -> None:
    class Other(Switched):
        def forward(self, x: Tensor) -> Tensor:
            return -2 * super().forward(x) + x.flatten(1)[:, :5]

    model.__class__ = Other


CHANGES: dict[str, Callable[[Switched], object]] = {
    "weights": lambda m: m.layers[0].weight.data.neg_(),
    "a layer more": lambda m: (m.layers.append(nn.Conv2d(4, 4, 3)), m.scales.append(-3.0)),
    "another layer": lambda m: m.layers.__setitem__(1, nn.Conv2d(4, 4, 1)),
    "a stride": lambda m: setattr(m.layers[1], "stride", (2, 2)),
    "a flag": lambda m: setattr(m, "negate", True),
    "a list": lambda m: m.scales.__setitem__(0, -1.5),
    "a global": lambda m: FACTOR.__setitem__("now", -2.5),
    "a forward": lambda m: setattr(m.head, "forward", lambda x: -F.linear(x, m.head.weight)),
    "another class": _change_class,
    "statistics replaced": lambda m: setattr(m.norm, "running_mean", torch.full((4,), 0.7, dtype=DTYPE)),
    "BatchNorm by the batch": lambda m: setattr(m.norm, "running_mean", None) or setattr(m.norm, "running_var", None),
    "a hook": lambda m: m.layers[0].register_forward_hook(lambda module, args, out: out * -1.5),
    "a hook on all": lambda m: HOOKS.append(nn.modules.module.register_module_forward_hook(_negating(m.layers[0]))),
    "a parametrisation": lambda m: nn.utils.parametrizations.weight_norm(m.layers[0]),
    "dtype": lambda m: m.half().double(),
}
SAME_FUNCTION = ("a parametrisation", "dtype")
HOOKS: list = []


def _negating(only: nn.Module) -> Callable:
    return lambda module, args, out: out * -1.5 if module is only else None


@pytest.fixture
def switched() -> Iterator[Switched]:
    yield Switched().double().eval()
    FACTOR["now"] = 1.0
    while HOOKS:
        HOOKS.pop().remove()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_calls_is_seen(change: str, switched: Switched) -> None:
    before = steps_of(switched)
    CHANGES[change](switched)
    switched.double().eval()
    assert same_steps(switched), change
    assert change in SAME_FUNCTION or not torch.equal(steps_of(switched), before)


def test_train_mode_is_not_attacked_by_the_graph_of_eval_mode(switched: Switched) -> None:
    x, y = images(6)
    for bn in ("eval", "train", "eval"):
        found = [PGD(0.1, 0.03, 3, bn=bn, engine=e, random_start=False)(copy.deepcopy(switched), x, y) for e in ("auto", "eager")]
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)


# -- what can't be traced ------------------------------------------------------------------------------------------------------


class Remembers(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.linear, self.seen = kind, nn.Linear(192, 5), []
        self.table = torch.ones(5, dtype=DTYPE)  # neither parameter nor buffer
        self.register_buffer("calls", torch.zeros((), dtype=DTYPE))

    def forward(self, x: Tensor) -> object:
        z = self.linear(x.flatten(1))
        if self.kind == "appends":
            self.seen.append(z)
            self.last = z
        if self.kind == "buffer":
            self.calls += 1
        if self.kind == "random":
            z = z + torch.rand_like(z) * 1e-3
        if self.kind == "branches" and z.sum() > 0:
            z = -z
        if self.kind == "table":
            z = z * self.table
        if self.kind == "numpy":
            z = z + torch.from_numpy(z.detach().numpy() * 0)
        return (z, z) if self.kind == "tuple" else z


@pytest.mark.parametrize("kind", ["buffer", "random", "branches", "table", "numpy", "hook", "script"])
def test_what_cannot_be_traced_is_told_and_attacked_all_the_same(kind: str) -> None:
    torch.manual_seed(0)
    model: nn.Module = Remembers(kind).double().eval()
    if kind == "hook":
        model.linear.register_forward_hook(lambda module, args, out: out * 2)
    if kind == "script":
        model = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double().eval(), images()[0])
    x, y = images()
    with pytest.raises(NotTraced) as reason:
        trace(model, x)
    with pytest.raises(ValueError, match="engine 'fused' can't attack this model: "):
        PGD(engine="fused")(model, x, y)
    told = PGD().explain(model, x)
    assert told.startswith("engine: eager") and str(reason.value) in told
    assert kind == "random" or same_steps(model)


def test_nothing_of_a_trace_is_left_in_the_network() -> None:
    model, (x, y) = Remembers("appends").double().eval(), images()
    model.linear.extra = {"a": 1}
    before = {name: dict(vars(m)) for name, m in model.named_modules()}
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    trace(model, x)
    assert torch.equal(torch.rand(1), expected)
    assert model.seen == [] and not hasattr(model, "last") and model.linear.extra == {"a": 1}
    assert {name: dict(vars(m)) for name, m in model.named_modules()} == before
    PGD(0.1, 0.03, 2)(model, x, y)
    torch.save(model, io.BytesIO())
    gone = weakref.ref(model)
    del model, before
    gc.collect()
    assert gone() is None


def test_a_graph_that_differs_from_its_network_is_found_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model, (x, _) = Switched().double().eval(), images()
    known = TRACES.of(model, x)
    made = known.program._prepare
    known.program._prepare = lambda *tensors: tuple(t * 1.5 if isinstance(t, Tensor) else t for t in made(*tensors))
    assert same_steps(model)
    assert "differs from the network itself" in PGD().explain(model, x) and "attacked by autograd" in caplog.text


def test_a_value_at_a_kink_is_no_reason_to_refuse_a_graph() -> None:
    """Rounding decides on which side of its ReLU it is, and with it a large part of the gradient."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(32):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)).eval()
        x = torch.rand(2, 3, 8, 8, generator=generator)
        with torch.no_grad():
            for values in (*model.parameters(), model[1].running_mean):
                values.normal_(std=0.2, generator=generator)
            model[4].weight[:, 36] *= 100  # the value at channel 0, row 4, column 4
            model[1].bias[0] -= model[:2](x)[0, 0, 4, 4]
        assert difference(model, TracedNetwork(Program(trace(model, x)), tensors_of(model), 2, "cpu"), x) is None


def test_one_graph_for_any_batch_and_one_of_its_own_for_a_single_sample() -> None:
    model = RandomNetwork(3)
    for n in (1, 2, 5, 64, 1):
        assert same_steps(model, n=n)
    assert len(TRACES._known[model]) == 2
