"""Attack, training step and suite on PreActResNet-18 compared with published loop, torchattacks, adv-lib and torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.engines.fused import TRACES
from ro_fast.config import ModelConfig, SmallLossConfig
from ro_fast.methods import METHODS, Step
from ro_fast.methods.step import Work
from ro_fast.models import build_model

from . import baselines
from .machine import has_bf16
from .paired import Row, paired
from .targets import Missing

Run = Callable[[], object]
EPS, ALPHA, STEPS, BATCH = 8 / 255, 2 / 255, 10, 16
SGD = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4}
LONG = {"seconds": 12.0, "at_least": 3}
NO_TORCHATTACKS = "torchattacks is not installed (pip install --no-deps torchattacks)"
NO_BF16 = "this CPU has no AVX512_BF16"


@dataclass
class Bench:
    """One network and batch, in the published loop's memory order and channels last."""

    device: str = "cpu"
    batch: int = BATCH
    config: ModelConfig = field(default_factory=lambda: ModelConfig(name="preact_resnet18"))
    plain: nn.Module = field(init=False)
    last: nn.Module = field(init=False)
    x: Tensor = field(init=False)
    x_last: Tensor = field(init=False)
    y: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.plain = build_model(self.config, (3, 32, 32), 10, [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]).to(self.device).train()
        self.last = copy.deepcopy(self.plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.x = torch.rand(self.batch, 3, 32, 32, device=self.device)
        self.y = torch.randint(10, (self.batch,), device=self.device)
        self.x_last = self.x.contiguous(memory_format=torch.channels_last)

    def rice(self) -> Tensor:
        """The published attack, in train mode."""
        return baselines.rice_attack(self.plain.train(), self.x, self.y, EPS, ALPHA, STEPS)

    def ours(self, attack: PGD, precision: str = "fp32", channels_last: bool = True) -> Callable[[], Tensor]:
        """Our attack, with the engine chosen as for a user."""
        model, x = (self.last, self.x_last) if channels_last else (self.plain, self.x)

        def run() -> Tensor:
            with torch.autocast(self.device, torch.bfloat16, enabled=precision == "bf16"):
                return attack(model, x, self.y)

        return run


def network_rows() -> Iterator[Row | Missing]:
    """Targets C1, C2, C3, K, C7 and S1."""
    bench = Bench()
    check_attack(bench.plain, bench.x, bench.y)
    yield from attack_rows(bench)
    yield from key_rows()
    yield from training_rows(bench)


def attack_rows(bench: Bench) -> Iterator[Row | Missing]:
    """PGD-10 in fp32 and bf16."""
    lean, train = PGD(EPS, ALPHA, STEPS), PGD(EPS, ALPHA, STEPS, bn="train")
    fp32, bf16 = "PGD-10 PreActResNet-18 fp32, batch 16", "PGD-10 PreActResNet-18 bf16, batch 16"
    rice = ("Rice attack, fp32", bench.rice)
    nchw, last = ("train BN, NCHW", bench.ours(train, channels_last=False)), ("eval, channels_last", bench.ours(lean))
    yield paired(fp32, nchw, rice, target="C1", must=1.5, goal=1.65, **LONG)
    yield paired(fp32, last, rice, target="C1", must=1.7, goal=2.0, **LONG)
    rivals = [("adv-lib's loop, fp32", lambda: baselines.adv_lib_attack(bench.plain.eval(), bench.x, bench.y, EPS, ALPHA, STEPS))]
    if torchattacks := import_torchattacks():
        theirs = torchattacks.PGD(bench.plain, EPS, ALPHA, STEPS)

        def run() -> Tensor:
            bench.plain.eval()
            return theirs(bench.x, bench.y)

        rivals.append(("torchattacks, fp32", run))
    else:
        yield Missing("C2", NO_TORCHATTACKS)
    for rival, (must, goal) in zip(rivals, ((1.05, 1.2), (1.1, 1.3)), strict=False):
        yield paired(fp32, last, rival, target="C2", must=must, goal=goal, **LONG)
    compiled = baselines.compiled_attack(bench.last, EPS, ALPHA, STEPS)
    strongest = ("torch.compile, fp32", lambda: compiled(bench.x_last, bench.y))
    yield paired(fp32, last, strongest, target="C3", must=1.0, goal=1.15, **LONG)
    if not has_bf16():
        yield from (Missing(target, NO_BF16) for target in ("C1", "C2", "C3"))
        return
    half = ("eval, channels_last, bf16", bench.ours(lean, "bf16"))
    yield paired(bf16, half, rice, target="C1", must=2.9, goal=4, **LONG)
    for rival in rivals[1:]:
        yield paired(bf16, half, rival, target="C2", must=1.8, goal=2.5, **LONG)

    def strongest_in_half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return compiled(bench.x_last, bench.y)

    yield paired(bf16, half, ("torch.compile, bf16", strongest_in_half), target="C3", must=1.0, goal=1.15, **LONG)


def key_rows() -> Iterator[Row]:
    """The cost of examining a network before each attack, for the key of its graph; proofs take at most 1 %."""
    attack = PGD(EPS, ALPHA, STEPS)
    for name, shape in (("small_cnn", (1, 28, 28)), ("small_cnn", (1, 8, 8)), ("preact_resnet18", (3, 32, 32))):
        model = build_model(ModelConfig(name=name), shape, 10, [0.5] * shape[0], [0.25] * shape[0]).eval()
        x, y = torch.rand(128, *shape), torch.randint(10, (128,))
        seen: dict[Any, Any] = {}

        def called(model: nn.Module = model, x: Tensor = x, y: Tensor = y) -> Tensor:
            return attack(model, x, y)

        def at_hand(run: Run = called, seen: dict[Any, Any] = seen) -> object:
            with TRACES.one_look(seen):
                return run()

        label = f"PGD-10 {name} {'×'.join(map(str, shape))}, batch 128"
        yield paired(label, ("as called", called), ("its graph at hand", at_hand), target="K", must=0.98, seconds=8.0, at_least=3)


def training_rows(bench: Bench) -> Iterator[Row | Missing]:
    """One training step, and the steps of a suite of three arms."""
    published = baselines.rice_training_step(torch.optim.SGD(bench.plain.parameters(), **SGD), [].append)
    theirs = ("Rice step", lambda: published(bench.plain, bench.x, bench.y, EPS, ALPHA, STEPS))
    name = "training step PreActResNet-18, batch 16"
    for label, precision, must, goal in (
        ("rice2020, fp32", "fp32", 1.4, 1.55),
        ("lean, fp32", "fp32", 1.6, 2.0),
        ("lean, bf16", "bf16", 2.6, 3.5),
    ):
        if precision == "bf16" and not has_bf16():
            yield Missing("C7", NO_BF16)
            continue
        ours = (label, training_step(bench, label.split(",")[0], precision))
        yield paired(name, ours, theirs, target="C7", must=must, goal=goal, **LONG)

    suite, scripts = suite_and_scripts(bench, training_step(bench, "lean", "fp32"), theirs[1])
    name = "three arms that part half-way, PreActResNet-18"
    yield paired(name, ("lean, fp32", suite), ("published scripts", scripts), target="S1", must=4, goal=8, seconds=1, at_least=3)


def suite_and_scripts(bench: Bench, lean: Run, published: Run) -> tuple[Run, Run]:
    """Steps of a suite of three arms that fork halfway, ours and those of the published scripts.

    Of the training of three arms, the first half is done once: 2 steps instead of 3. The scripts also attack the training
    batch a second time, for their log.
    """

    def suite() -> None:
        for _ in range(2):
            lean()

    def scripts() -> None:
        for _ in range(3):
            published()
            bench.rice()

    return suite, scripts


def training_step(bench: Bench, recipe: str, precision: str, engine: str = "auto") -> Callable[[], None]:
    """The trainer's step of a recipe: decide, descend, and the natural forward if it has one."""
    published = recipe == "rice2020"
    x = bench.x if published else bench.x_last
    model = copy.deepcopy(bench.plain if published else bench.last).train()
    attack = PGD(EPS, ALPHA, STEPS, bn="train", final_forward=True) if published else PGD(EPS, ALPHA, STEPS)
    attack.engine = engine
    optimizer = torch.optim.SGD(model.parameters(), **SGD, fused=True)

    def run() -> None:
        with torch.autocast(bench.device, torch.bfloat16, enabled=precision == "bf16"):
            loss = METHODS["baseline"](Step(model, attack, x, bench.y, SmallLossConfig(), Work()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if published:
            with torch.no_grad():
                model(x)

    return run


def check_attack(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """No speed for an attack weaker than its rivals: from the same start in float64, all end at the same point."""
    model = copy.deepcopy(model).double().eval()
    x, y = x[:4].double(), y[:4]
    ends = []
    for rival in (baselines.rice_attack, baselines.adv_lib_attack):
        torch.manual_seed(1)
        end = rival(model, x, y, EPS, ALPHA, STEPS)
        ends.append(x + end if rival is baselines.rice_attack else end)
    torch.manual_seed(1)
    noise = torch.zeros_like(x).uniform_(-EPS, EPS) / EPS
    ours = PGD(EPS, ALPHA, STEPS)(model, x, y, noise=noise)
    for end in ends:
        torch.testing.assert_close(ours, end, rtol=0, atol=1e-6)


def import_torchattacks():  # type: ignore[no-untyped-def]
    """The package, or None if it is not installed."""
    try:
        import torchattacks
    except ImportError:
        return None
    return torchattacks
