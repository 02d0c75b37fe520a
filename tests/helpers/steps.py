"""A training step on sixteen samples, created anew but identical each time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.config import SmallLossConfig
from ro_fast.methods import Step
from ro_fast.methods.method import plain_attack
from ro_fast.methods.step import Work


def make_step(value: float = 1.2, attacked: bool = True, **more: object) -> Step:
    """With ``attacked=False`` the batch alone, for a method with its own attack or inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).train()
    x, y = torch.rand(16, 3, 2, 2), torch.randint(0, 3, (16,))
    attack = PGD(eps=0.1, alpha=0.025, steps=3, generator=torch.Generator().manual_seed(0))
    step = Step(model, attack, x, y, SmallLossConfig(value), Work(), generator=torch.Generator().manual_seed(1), **more)
    if attacked:
        step.x_adv = plain_attack(step)
    return step


def gradients(step: Step, loss: Tensor) -> Tensor:
    loss.backward()
    return torch.cat([p.grad.flatten() for p in step.model.parameters()])
