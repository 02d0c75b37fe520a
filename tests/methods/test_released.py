"""Steps of TRADES, MART, AWP, AWP-TRADES and MLCAT compared with their reimplemented code: values, gradients and statistics."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.config import SmallLossConfig
from ro_fast.methods import METHODS, Step, WeightPerturbation, build_objective
from ro_fast.methods.method import plain_attack
from ro_fast.methods.step import Work

EPS, ALPHA, STEPS, BETA, GAMMA = 0.1, 0.03, 4, 6.0, 0.05


def network() -> nn.Module:
    torch.manual_seed(4)
    layers = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 7), nn.BatchNorm1d(7), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(7, 3)).double().train()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    x = torch.rand(12, 2, 6, 6).double()
    return x, torch.randint(3, (12,)), torch.empty_like(x).normal_(generator=torch.Generator().manual_seed(6))


def trades_attack(model: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    model.eval()
    x_adv = x + 0.001 * noise
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum")
        grad = torch.autograd.grad(loss, x_adv)[0]
        x_adv = x_adv.detach() + ALPHA * grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    return x_adv


def trades(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> Tensor:
    natural = F.cross_entropy(model(x), y)
    robust = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum") / len(x)
    return natural + BETA * robust


def mart_attack(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    model.eval()
    x_adv = x + 0.001 * noise
    for _ in range(STEPS):
        x_adv.requires_grad_()
        grad = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)[0]
        x_adv = x_adv.detach() + ALPHA * grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    return x_adv


def mart(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> Tensor:
    natural, adversarial = model(x), model(x_adv)
    p = adversarial.softmax(1)
    top = p.argsort(1)[:, -2:]
    rival = torch.where(top[:, -1] == y, top[:, -2], top[:, -1])
    boosted = F.cross_entropy(adversarial, y) + F.nll_loss(torch.log(1.0001 - p + 1e-12), rival)
    q = natural.softmax(1)
    own = q.gather(1, y[:, None]).squeeze(1)
    divergence = F.kl_div(torch.log(p + 1e-12), q, reduction="none").sum(1)
    return boosted + BETA * (divergence * (1.0000001 - own)).mean()


def perturbed(model: nn.Module, loss) -> dict[str, Tensor]:
    """AWP: a copy of the network finds the step along which the loss grows most; per layer, its length is γ of its weights'."""
    proxy = copy.deepcopy(model)
    loss(proxy).backward()
    moves = {}
    for name, p in proxy.named_parameters():
        if p.dim() > 1 and "weight" in name:
            moves[name] = GAMMA * p.norm() / (p.grad.norm() + 1e-20) * p.grad
    return {name: move.detach() for name, move in moves.items()}


def moved(model: nn.Module, moves: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in moves:
                p.add_(moves[name])


def ours(objective: dict, batch: tuple[Tensor, Tensor, Tensor], weights: WeightPerturbation | None = None) -> tuple[Step, Tensor]:
    x, y, _ = batch
    attack = PGD(EPS, ALPHA, STEPS, generator=torch.Generator().manual_seed(6))  # draws the fixture's noise
    built = build_objective({"beta": BETA, **objective})
    step = Step(network(), attack, x, y, SmallLossConfig(), Work(), objective=built, weights=weights)
    step.x_adv = plain_attack(step)
    loss = METHODS["baseline"].loss(step)
    loss.backward()
    return step, loss


def agree(step: Step, loss: Tensor, model: nn.Module, theirs: Tensor) -> None:
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-12)
    for (name, a), b in zip(step.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")
    for (name, a), b in zip(step.model.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def test_trades_is_its_released_code(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    model, (x, y, noise) = network(), batch
    x_adv = trades_attack(model, x, noise)
    step, loss = ours({"objective": "trades2019"}, batch)
    torch.testing.assert_close(step.x_adv, x_adv, rtol=0, atol=1e-12)
    theirs = trades(model, x, y, x_adv)
    theirs.backward()
    agree(step, loss, model, theirs)
    assert int(step.model[1].num_batches_tracked) == 3


def test_mart_is_its_released_code(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    model, (x, y, noise) = network(), batch
    x_adv = mart_attack(model, x, y, noise)
    step, loss = ours({"objective": "mart2020"}, batch)
    torch.testing.assert_close(step.x_adv, x_adv, rtol=0, atol=1e-12)
    theirs = mart(model, x, y, x_adv)
    theirs.backward()
    agree(step, loss, model, theirs)


def test_awp_and_awp_trades_are_their_released_code(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, _ = batch
    step, loss = ours({}, batch, WeightPerturbation("awp", GAMMA))
    model = network()
    moved(model, perturbed(model, lambda m: F.cross_entropy(m(step.x_adv), y)))
    theirs = F.cross_entropy(model(step.x_adv), y)
    theirs.backward()
    agree(step, loss, model, theirs)

    step, loss = ours({"objective": "trades2019"}, batch, WeightPerturbation("awp", GAMMA))
    model = network()

    def awp_trades(m: nn.Module) -> Tensor:  # adversarial, natural, natural: the order of their training forwards
        robust = F.kl_div(F.log_softmax(m(step.x_adv), 1), F.softmax(m(x), 1), reduction="batchmean")
        return F.cross_entropy(m(x), y) + BETA * robust

    moved(model, perturbed(model, awp_trades))
    theirs = awp_trades(model)
    theirs.backward()
    agree(step, loss, model, theirs)


def test_mlcat_is_its_released_code(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """Ten gradients of small losses, accumulated; the weights move by γ of their norm along the sum."""
    _, y, _ = batch
    step, loss = ours({}, batch, WeightPerturbation("mlcat", GAMMA))
    model = network()
    proxy = copy.deepcopy(model)
    names = [name for name, p in proxy.named_parameters() if p.dim() > 1]
    start = {name: dict(proxy.named_parameters())[name].detach().clone() for name in names}
    size = torch.cat([p.flatten() for p in start.values()]).norm()
    total = {name: torch.zeros_like(p) for name, p in start.items()}
    for _ in range(10):
        proxy.zero_grad()
        each = F.cross_entropy(proxy(step.x_adv), y, reduction="none")
        (each * (each.detach() < 1.5)).mean().backward()
        for name in names:
            total[name] += dict(proxy.named_parameters())[name].grad
        length = torch.cat([g.flatten() for g in total.values()]).norm()
        with torch.no_grad():
            for name in names:
                dict(proxy.named_parameters())[name].copy_(start[name] + GAMMA * size / (length + 1e-20) * total[name])
    moved(model, {name: dict(proxy.named_parameters())[name].detach() - start[name] for name in names})
    theirs = F.cross_entropy(model(step.x_adv), y)
    theirs.backward()
    agree(step, loss, model, theirs)
