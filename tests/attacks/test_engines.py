"""PGD engines: all take the same steps as the eager one, and say what they can't do."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ro_fast.attacks import PGD
from ro_fast.attacks.engines.run import Program, TracedNetwork
from ro_fast.attacks.engines.trace import tensors_of, trace
from ro_fast.config import ModelConfig
from ro_fast.models import build_model

DTYPE = torch.float64


def network(name: str, shape: tuple[int, ...]) -> nn.Module:
    """A shipped model in float64 with non-initial running statistics and affine parameters."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=name, width=8), shape, 5, [0.4] * shape[0], [0.2] * shape[0]).to(DTYPE)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        model(torch.rand(16, *shape, dtype=DTYPE))
    return model


class Odd(nn.Module):
    """Strides that leave a remainder, groups, dilation, biases, values used twice, norms without ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 4, 3, stride=2)
        self.grouped = nn.Conv2d(4, 8, (3, 1), padding=(1, 0), groups=2, bias=False)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(8)])
        self.drop, self.pool, self.head = nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.strided(x))
        y = torch.relu(self.norms[0](self.dilated(x))) + self.norms[1](x)
        y += y.relu()
        return self.head(self.drop(torch.flatten(self.pool(F.relu(self.norms[2](y))), 1)))


CASES = {
    "small_cnn": ((1, 9, 9), lambda: network("small_cnn", (1, 9, 9))),
    "preact_resnet18": ((3, 10, 10), lambda: network("preact_resnet18", (3, 10, 10))),
    "mlp": ((1, 4, 4), lambda: network("mlp", (1, 4, 4))),
    "odd": ((3, 12, 11), lambda: Odd().to(DTYPE)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    shape, build = CASES[request.param]
    torch.manual_seed(1)
    return build(), torch.rand(3, *shape, dtype=DTYPE), torch.tensor([0, 4, 2])


def traced_network(model: nn.Module, x: Tensor) -> TracedNetwork:
    """The program run by the fused engine, traced now."""
    return TracedNetwork(Program(trace(model, x)), tensors_of(model), len(x), "cpu")


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_fused_logits_and_input_gradient_are_autograds(case: tuple, order: torch.memory_format) -> None:
    model, x, y = case
    model.eval()
    leaf = x.contiguous(memory_format=order).requires_grad_()
    logits = model(leaf)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, y), leaf)
    fused = traced_network(model, leaf)
    torch.testing.assert_close(fused(leaf), logits.detach(), rtol=0, atol=1e-12)
    grad = fused.gradient(leaf, lambda z: F.cross_entropy(z, y))
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    # In single precision a CPU packs weights, fuses ReLUs, and uses the Winograd form if it is faster.
    model, leaf = copy.deepcopy(model).float(), leaf.detach().float()
    single = traced_network(model, leaf)
    torch.testing.assert_close(single(leaf), logits.detach().float(), rtol=1e-4, atol=1e-5)
    grad = single.gradient(leaf, lambda z: F.cross_entropy(z, y))
    torch.testing.assert_close(grad, expected.float(), rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fused_takes_the_steps_of_eager_and_leaves_the_model_as_it_was(case: tuple, norm: str) -> None:
    model, x, y = case
    before = copy.deepcopy(model.state_dict())
    noise = torch.empty(2, *x.shape, dtype=DTYPE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    found = [PGD(0.1, 0.03, 4, norm=norm, restarts=2, engine=engine)(model, x, y, noise=noise) for engine in ("eager", "fused")]
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_compiled_takes_the_steps_of_eager_also_after_the_weights_moved() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5)).to(DTYPE)
    x, y = torch.rand(3, 3, 2, 2, dtype=DTYPE), torch.tensor([0, 4, 2])
    for _ in range(2):
        found = [PGD(0.1, 0.03, 3, random_start=False, engine=engine)(model, x, y) for engine in ("eager", "compiled")]
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)
        with torch.no_grad():
            model[1].weight.neg_()


def test_mlp_takes_the_steps_of_eager_also_where_some_samples_are_left_alone() -> None:
    model, x, y = network("mlp", (1, 4, 4)), torch.rand(6, 1, 4, 4, dtype=DTYPE), torch.arange(6) % 5
    attack = PGD(0.1, 0.03, 4, restarts=2)
    if attack.explain(model, x).startswith("engine: mlp"):
        noise = torch.empty(2, *x.shape, dtype=DTYPE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        options = {"noise": noise, "active": torch.arange(6) != 2, "eps": torch.linspace(0.0, 0.2, 6, dtype=DTYPE)}
        found = [dataclasses.replace(attack, engine=engine)(model, x, y, **options) for engine in ("eager", "mlp")]
        torch.testing.assert_close(*found, rtol=0, atol=1e-10)
        assert attack(model, x, torch.rand(6, 5, dtype=DTYPE)).shape == x.shape  # soft labels go to another engine
    for other, reason in (({"norm": "l2"}, "L∞"), ({"loss": "margin"}, "cross-entropy"), ({"bn": "train"}, "train mode")):
        assert reason in dataclasses.replace(attack, **other).explain(model, x).split("mlp: ")[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_captured_takes_the_steps_of_eager_also_after_the_weights_moved(case: tuple) -> None:
    model, x, y = (t.cuda() for t in case)
    for eps in (0.1, torch.tensor([0.05, 0.1, 0.2], device="cuda")):
        found = [PGD(0.1, 0.03, 3, random_start=False, engine=engine)(model, x, y, eps=eps) for engine in ("eager", "captured")]
        torch.testing.assert_close(*found, rtol=0, atol=1e-10)
        with torch.no_grad():
            next(model.parameters()).mul_(-1)


def test_under_autocast_fused_computes_in_bfloat16_and_moves_inputs_of_float32() -> None:
    model = network("small_cnn", (1, 9, 9)).float().eval()
    x, y = torch.rand(3, 1, 9, 9), torch.tensor([0, 4, 2])
    with torch.autocast("cpu", torch.bfloat16):
        fused, logits = traced_network(model, x), model(x)
        assert fused(x).dtype == torch.bfloat16
        assert PGD(0.1, 0.03, 2, engine="fused")(model, x, y).dtype == torch.float32
        torch.testing.assert_close(fused(x), logits, rtol=0.1, atol=0.1)


def test_engines_say_why_not() -> None:
    model, x, y = network("small_cnn", (1, 9, 9)), torch.rand(2, 1, 9, 9, dtype=DTYPE), torch.tensor([0, 4])
    told = PGD().explain(model, x)
    assert told.startswith("engine: fused") and "BatchNorm folded (3)" in told and "checked against the network" in told
    assert "batch" in PGD(bn="train").explain(model, x)
    assert PGD(bn="keep").explain(model, x).startswith("engine: eager")
    assert PGD(bn="keep").explain(model.eval(), x).startswith("engine: fused")
    with pytest.raises(ValueError, match=r"captured.*need a GPU"):
        PGD(engine="captured")(model, x, y)
    with pytest.raises(ValueError, match=r"compiled.*function"):
        PGD(engine="compiled")(lambda x: model(x), x, y)
    with pytest.raises(ValueError, match=r"engine 'warp'.*auto, eager, mlp, fused, compiled, captured"):
        PGD(engine="warp")
