"""The cascade against AutoAttack (Croce & Hein 2020), image by image, where it is installed; it is not on PyPI."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ro_fast.attacks.cascade import cascade, standard_attacks

autoattack = pytest.importorskip("autoattack")
datasets = pytest.importorskip("sklearn.datasets")

EPS = 0.1


def test_breaks_the_images_that_autoattack_breaks() -> None:
    digits = datasets.load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10))
    adam = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(200):
        nn.functional.cross_entropy(model(x[:1500]), y[:1500]).backward()
        adam.step()
        adam.zero_grad()
    x, y = x[1500:], y[1500:]
    theirs = autoattack.AutoAttack(model, norm="Linf", eps=EPS, version="standard", device="cpu", verbose=False)
    x_adv = theirs.run_standard_evaluation(x, y, bs=len(x))
    with torch.no_grad():
        their_robust = model(x_adv).argmax(1) == y
    ours = cascade(model, lambda index: x[index], y, standard_attacks(EPS))[-1].robust
    assert 0.1 < their_robust.double().mean() < 0.9
    assert (ours & ~their_robust).sum() <= 0.01 * len(x)
