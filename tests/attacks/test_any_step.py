"""Evaluation on surviving samples gives the flags of a full run, whatever the batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD, AnyStep, any_step
from ro_fast.ops import pgd_init, pgd_step


@pytest.fixture(scope="module")
def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that is right on most samples, and robust on about half of those."""
    torch.manual_seed(0)
    x = torch.rand(61, 1, 5, 5, dtype=torch.float64)
    layers = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3)
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        model(x)
        y = model.eval()(x).argmax(1)
    y[::9] = (y[::9] + 1) % 3
    return model.train(), x, y


def literally(model: nn.Module, x: Tensor, y: Tensor, attack: PGD, eps: Tensor | None) -> Tensor:
    """Each iterate of each restart, sample by sample, with the noise that belongs to it."""
    robust = model(x).argmax(1) == y
    generator = torch.Generator().manual_seed(4)
    radius = torch.full((len(x),), attack.eps, dtype=x.dtype) if eps is None else eps
    for _ in range(attack.restarts):
        noise = torch.empty_like(x)
        noise = noise.uniform_(-1, 1, generator=generator) if attack.norm == "linf" else noise.normal_(generator=generator)
        for i in range(len(x)):
            at = slice(i, i + 1)
            x_adv = pgd_init(x[at], radius[at], noise[at], norm=attack.norm)
            for k in range(attack.steps + 1):
                leaf = x_adv.clone().requires_grad_()
                logits = model(leaf)
                robust[i] &= bool(logits.argmax(1) == y[at])
                if k < attack.steps:
                    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y[at]), leaf)
                    step = radius[at] * attack.alpha / attack.eps
                    x_adv = pgd_step(x_adv, x[at], grad, radius[at], step, norm=attack.norm)
    return robust


def run(problem: tuple, attack: PGD, **options) -> AnyStep:
    model, x, y = problem
    return any_step(model, lambda index: x[index], y, attack, seed=4, **options)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.2)])
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("by_sample", [False, True])
def test_flags_are_those_of_every_iterate(problem: tuple, norm: str, eps: float, restarts: int, by_sample: bool) -> None:
    model, x, y = problem
    attack = PGD(eps, eps / 4, 6, norm=norm, restarts=restarts)
    radii = eps * torch.linspace(0, 2, len(x), dtype=x.dtype) if by_sample else None
    expected = literally(model.eval(), x, y, attack, radii)
    model.train()
    natural = int((model.eval()(x).argmax(1) == y).sum())
    assert 5 < expected.sum() < natural - 5
    model.train()
    for options in ({}, {"drop": False}, {"batch_size": 7}, {"batch_size": 1}, {"batch_size": 16, "check_every": 3}):
        found = run(problem, attack, eps=radii, **options)
        assert torch.equal(found.robust, expected), options
        assert int(found.natural.sum()) == natural
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_work_is_saved_and_counted(problem: tuple) -> None:
    attack, seen = PGD(0.05, 0.0125, 6), []
    full, active = run(problem, attack, drop=False), run(problem, attack, batch_size=16, on_progress=seen.append)
    n = len(problem[1])
    assert (full.forward, full.input_grad, full.forwards) == (n, 7 * n, 15 * n)
    assert active.input_grad < 0.75 * full.input_grad
    assert seen == sorted(seen) and seen[-1] == int(active.natural.sum())


@pytest.mark.parametrize(("eps", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_or_all_broken(problem: tuple, eps: float, share: float) -> None:
    found = run(problem, PGD(eps, eps / 2, 8), batch_size=8)
    assert found.robust.sum() == share * found.natural.sum()


def test_no_samples_at_all(problem: tuple) -> None:
    model, x, y = problem
    found = any_step(model, lambda index: x[index], y[:0], PGD())
    assert len(found.robust) == 0 and found.forwards == 0


def test_what_does_not_fit_is_told(problem: tuple) -> None:
    with pytest.raises(ValueError, match="batch_size = 0"):
        run(problem, PGD(), batch_size=0)
    with pytest.raises(ValueError, match="bn='train'"):
        run(problem, PGD(bn="train"))
