"""What is longer than a step, on an NVIDIA GPU: a suite, the waits of an epoch, an evaluation. Rows of ``gpu.py``."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ro_fast.attacks import APGD, PGD, any_step, cascade
from ro_fast.config import AblateConfig, ArmConfig, SuiteConfig, changed
from ro_fast.data import load_data
from ro_fast.suite.plan import plan
from ro_fast.suite.run import ablate
from ro_fast.training import trainer

from .evaluation import SURVIVING
from .gpu_paired import Run, paired
from .networks import Bench, import_torchattacks
from .paired import Row

ARMS = ("baseline", "data_and_perturbation", "perturbation")


def study_rows(images: int = 2048, epochs: int = 4, device: str = "cuda", model: str = "preact_resnet18") -> Iterator[Row]:
    """G6 to G8, on images of a pattern a class under noise: what is timed does not depend on what they show."""
    with tempfile.TemporaryDirectory() as folder:
        config = study(Path(folder), images, epochs, device, model)
        yield suite_row(config)
        yield waiting_row(config)
    yield from evaluation_rows(Bench(device, images // 4))


def study(folder: Path, images: int, epochs: int, device: str, model: str) -> AblateConfig:
    """Three arms that part half-way, as published, of one seed, in bf16."""
    random = np.random.default_rng(0)
    patterns = random.random((10, 3, 32, 32))
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", images), ("test", images // 4)):
        y = np.arange(count) % 10
        x = 255 * (0.5 * patterns[y] + 0.5 * random.random((count, 3, 32, 32)))
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    np.savez(folder / "images.npz", **arrays)
    arms = [ArmConfig(name, {"method": {"name": name}}, name, "baseline" if name == "baseline" else "factor") for name in ARMS]
    rules = {"min_gap": 0.02, "min_reduction": 0.5, "max_robust_loss": 0.01, "irrelevant": 0.2}
    config = AblateConfig(suite=SuiteConfig("three_arms", "How long?", 0.5, arms=arms, rules=rules), seeds=1, jobs=1)
    values = {"data.name": "npz", "data.path": str(folder / "images.npz"), "model.name": model, "precision": "bf16"}
    values |= {"trainer.epochs": epochs, "device": device, "out": str(folder / "suite"), "prefixes": str(folder / "prefixes")}
    return changed(config, values)


def suite_row(config: AblateConfig) -> Row:
    """G7: wall time, scores and files included, of the arms' runs one by one over that of the suite: at least 1 / 0.8."""
    again = itertools.count()

    def fresh() -> AblateConfig:
        turn = next(again)
        return changed(config, {"out": f"{config.out}{turn}", "prefixes": f"{config.prefixes}{turn}"})

    def singly() -> None:
        for branch in plan(fresh()):
            trainer.train(branch.config)

    ours, rival = ("one suite", lambda: ablate(fresh())), ("three runs", singly)
    return paired("three arms, files and scores included", ours, rival, rounds=2, warm_up=1, target="G7", must=1.25, goal=2)


def waiting_row(config: AblateConfig) -> Row:
    """G6: how often training of an epoch waits for the device; the ratio is 5 over that."""
    run_config = plan(config)[0].config
    device = torch.device(config.device)
    run = trainer.Run(run_config, load_data(run_config.data).to(device), device)
    run.train_epoch()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run.train_epoch()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(warning.message) for warning in told)
    row = paired("waits for the device in an epoch", (f"{waits} waits", run.train_epoch), ("limit 5", run.train_epoch), rounds=1)
    return replace(row, ratio=5 / max(1, waits), target="G6", must=1, goal=5)


def evaluation_rows(bench: Bench) -> Iterator[Row]:
    """G8: PGD-20 on the samples that survive against all, at a radius where about 45 % do, and APGD-CE against torchattacks'.

    The network is untrained, and a sample's class is what it says of it: how long an evaluation takes depends on how many
    samples survive how long, not on what was learnt.
    """
    model, x = bench.last, bench.x_last
    with torch.no_grad():
        model.train()(x)  # gives BatchNorm its statistics
        y = model.eval()(x).argmax(1)

    def evaluate(eps: float, drop: bool) -> Tensor:
        return any_step(model, lambda index: x[index], y, PGD(eps, eps / 4, 20), batch_size=256, drop=drop, check_every=4).robust

    low, high = 0.0, 0.5
    for _ in range(8):
        eps = (low + high) / 2
        low, high = (eps, high) if evaluate(eps, True).float().mean() > SURVIVING else (low, eps)
    full, active = evaluate(eps, False), evaluate(eps, True)
    apart, share = (full != active).float().mean().item(), active.float().mean().item()
    assert apart <= 0.002, apart  # TF32 rounds by a batch's composition
    ours, theirs = ("active set", lambda: evaluate(eps, True)), ("own full run", lambda: evaluate(eps, False))
    label = f"PGD-20 any-step, {share:.0%} survive"
    yield paired(label, ours, theirs, rounds=5, warm_up=1, target="G8", must=1.6, goal=1.9)
    torchattacks = import_torchattacks()
    if torchattacks is not None:
        yield apgd_row(model, x, y, eps, torchattacks.APGD(model, eps=eps, steps=50))


def apgd_row(model: nn.Module, x: Tensor, y: Tensor, eps: float, rival: nn.Module) -> Row:
    """APGD-CE of 50 steps on surviving samples against torchattacks', which must not be the stronger by half a point."""

    def ours() -> Tensor:
        return cascade(model, lambda index: x[index], y, {"attack": APGD(eps, 50)}, batch_size=256)[-1].robust

    def theirs() -> Tensor:
        x_adv = torch.cat([rival(batch, target) for batch, target in zip(x.split(256), y.split(256), strict=True)])
        with torch.no_grad():
            return model(x_adv).argmax(1) == y

    shares = [run().float().mean().item() for run in (ours, theirs)]
    assert shares[0] <= shares[1] + 0.005, shares
    pair: tuple[tuple[str, Run], tuple[str, Run]] = (("surviving samples", ours), ("torchattacks", theirs))
    return paired("APGD-CE, 50 steps", *pair, rounds=2, warm_up=0, target="G8", must=2, goal=3)
