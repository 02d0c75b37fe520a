"""PGD-20 evaluation of a trained network on surviving samples, against the same code without dropping any."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ro_fast.attacks import PGD, AnyStep, any_step
from ro_fast.config import TrainConfig, changed
from ro_fast.data import load_data
from ro_fast.errors import InputError
from ro_fast.trainer import Run

from .paired import Row, paired

SURVIVING = 0.45
# Seconds of adversarial training with single steps, and 2048 images that were not seen.
CONFIG = changed(
    TrainConfig(),
    {
        "data.name": "fashion_mnist", "data.train_size": 6000, "data.test_size": 2048, "data.eps": 0.1,
        "model.width": 16, "attack.steps": 1, "attack.alpha": 0.125, "trainer.epochs": 6, "trainer.lr": 0.4, "threads": 1,
    },
)  # fmt: skip


def evaluation_rows() -> Iterator[Row]:
    """Target C8: a radius is sought at which about 45 % survive; both runs must flag the same samples."""
    try:
        data = load_data(CONFIG.data)
    except InputError as error:
        print(f"evaluation is not timed: {error}")
        return
    run = Run(CONFIG, data, torch.device("cpu"))
    for run.epoch in range(CONFIG.trainer.epochs):
        run.train_epoch()
    x, y = run.data.x_test, run.data.y_test

    def evaluate(eps: float, drop: bool, count: int = len(y)) -> AnyStep:
        attack = PGD(eps, eps / 4, 20)
        return any_step(run.model, lambda index: run._inputs(x[index]), y[:count], attack, batch_size=128, drop=drop)

    low, high = 0.0, 0.5
    for _ in range(7):
        eps = (low + high) / 2
        surviving = evaluate(eps, True, 512).robust.float().mean().item()
        low, high = (eps, high) if surviving > SURVIVING else (low, eps)
    full, active = evaluate(eps, False), evaluate(eps, True)
    assert torch.equal(full.robust, active.robust)
    share, saved = active.robust.float().mean().item(), full.forwards / active.forwards
    name = f"PGD-20 any-step, {share:.0%} survive, {saved:.2f}× fewer forwards"
    ours, theirs = ("active set", lambda: evaluate(eps, True)), ("own full run", lambda: evaluate(eps, False))
    yield paired(name, ours, theirs, seconds=10, at_least=3, target="C8", must=1.6, goal=1.9)
