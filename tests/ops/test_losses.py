"""The losses of adversarial training and evaluation, compared with torch's own and plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ro_fast.attacks import PGD
from ro_fast.ops import backends, boosted_cross_entropy, dlr_loss, margin_loss, weighted_kl
from ro_fast.testing import backends_for

N, C = 9, 6


@pytest.fixture(params=backends.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if reason := backends_for("weighted_kl")[request.param]:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def draw() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    z, other = (3 * torch.randn(N, C, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.randint(C, (N,), generator=generator)
    return z.requires_grad_(), other.requires_grad_(), y, (y + 1 + torch.arange(N) % (C - 1)) % C, torch.rand(N).double()


def plain_boosted(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(1)
    others = p.masked_fill(F.one_hot(y, C).bool(), 0)
    return -p.gather(1, y[:, None])[:, 0].log() - (1 - others.amax(1)).log()


def plain_margin(z: Tensor, y: Tensor) -> Tensor:
    return z.masked_fill(F.one_hot(y, C).bool(), -torch.inf).amax(1) - z.gather(1, y[:, None])[:, 0]


def plain_ratio(z: Tensor, y: Tensor, t: Tensor | None = None) -> Tensor:
    ranked = z.sort(1, descending=True).values
    if t is None:
        return plain_margin(z, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)
    rise = z.gather(1, t[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0]
    return rise / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


Z, OTHER, Y, T, W = draw()
CASES: dict[str, tuple[Callable[..., Tensor], Callable[[], Tensor]]] = {
    "kl": (lambda **k: weighted_kl(Z, OTHER, **k), lambda: F.kl_div(Z.log_softmax(1), OTHER.softmax(1), reduction="none").sum(1)),
    "boosted": (lambda **k: boosted_cross_entropy(Z, Y, **k), lambda: plain_boosted(Z, Y)),
    "margin": (lambda **k: margin_loss(Z, Y, **k), lambda: plain_margin(Z, Y)),
    "ratio": (lambda **k: dlr_loss(Z, Y, **k), lambda: plain_ratio(Z, Y)),
    "targeted ratio": (lambda **k: dlr_loss(Z, Y, T, **k), lambda: plain_ratio(Z, Y, T)),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_plain_formula(case: str, backend: str) -> None:
    ours, plain = CASES[case]
    weight = W.clone().requires_grad_()
    leaves = [Z, weight, *([OTHER] if case == "kl" else [])]
    reduced = {
        "none": weight * plain(),
        "sum": (weight * plain()).sum(),
        "mean": (weight * plain()).mean(),
        "weighted_mean": (weight * plain()).sum() / weight.sum(),
    }
    for reduction, expected in reduced.items():
        push = torch.linspace(0.5, 1.5, expected.numel(), dtype=torch.float64).view(expected.shape)
        expected_grads = torch.autograd.grad(expected, leaves, push, retain_graph=True)
        with backends.use_backend(backend):
            for w, count in ((weight, len(leaves)), (weight.detach(), None)):
                found = ours(weight=w, reduction=reduction)
                torch.testing.assert_close(found, expected)
                wanted = leaves if count else [leaf for leaf in leaves if leaf is not weight]
                grads = torch.autograd.grad(found, wanted, push)
                pairs = {id(leaf): grad for leaf, grad in zip(leaves, expected_grads, strict=True)}
                for leaf, grad in zip(wanted, grads, strict=True):
                    torch.testing.assert_close(grad, pairs[id(leaf)])


def test_a_weight_of_0_hides_an_infinite_loss_and_its_gradient(backend: str) -> None:
    z = torch.tensor([[0.0, -torch.inf, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    for weight in (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0], requires_grad=True)):
        with backends.use_backend(backend):
            loss = boosted_cross_entropy(z, torch.tensor([1, 1]), weight, reduction="sum")
            (grad,) = torch.autograd.grad(loss, z)
        assert loss.isfinite() and grad[0].eq(0).all() and grad[1].ne(0).any()


@pytest.mark.parametrize(("name", "loss"), [("margin", margin_loss), ("dlr", dlr_loss)])
def test_an_attack_climbs_the_loss_it_is_given(name: str, loss: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, C))
    x, y = torch.rand(N, 8), Y
    before = loss(model(x), y, reduction="none")
    for engine in ("eager", "fused"):
        x_adv = PGD(0.1, 0.05, 3, loss=name, random_start=False, engine=engine)(model, x, y)
        after = loss(model(x_adv), y, reduction="none")
        assert (after >= before - 1e-5).all() and (after > before + 1e-3).sum() > N // 2
