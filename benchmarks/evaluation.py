"""PGD-20 evaluation of a trained network on surviving samples, against the same code without dropping any."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ro_fast.attacks import PGD, AnyStep, any_step
from ro_fast.config import TrainConfig, changed
from ro_fast.data import load_data
from ro_fast.trainer import Run

from .paired import Row, paired

SURVIVING = 0.45


def evaluation_rows() -> Iterator[Row]:
    """Target C8: a radius is sought at which about 45 % of the digits survive; both runs must flag the same ones."""
    config = changed(TrainConfig(), {"data.train_size": 1000, "data.eps": 0.1, "threads": 1})
    run = Run(config, load_data(config.data), torch.device("cpu"))
    for _ in range(4):
        run.train_epoch()
    # All digits there are: when the queue is empty the batch shrinks, and with few samples that would be most of the time.
    x, y = (torch.cat([getattr(run.data, f"{v}_{part}") for part in ("train", "val", "test")]) for v in "xy")

    def evaluate(eps: float, drop: bool) -> AnyStep:
        attack = PGD(eps, eps / 4, 20)
        return any_step(run.model, lambda index: run._inputs(x[index]), y, attack, batch_size=128, drop=drop)

    def surviving(eps: float) -> float:
        return evaluate(eps, True).robust.float().mean().item()

    low, high = 0.0, 0.5
    for _ in range(8):
        eps = (low + high) / 2
        low, high = (eps, high) if surviving(eps) > SURVIVING else (low, eps)
    full, active = evaluate(eps, False), evaluate(eps, True)
    assert torch.equal(full.robust, active.robust)
    share, saved = active.robust.float().mean().item(), full.forwards / active.forwards
    name = f"PGD-20 any-step, small_cnn, {share:.0%} survive, {saved:.2f}× fewer forwards"
    ours, theirs = ("active set", lambda: evaluate(eps, True)), ("own full run", lambda: evaluate(eps, False))
    yield paired(name, ours, theirs, seconds=10, target="C8", must=1.6, goal=1.9)
