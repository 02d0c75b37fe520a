"""``python -m benchmarks.run``: operators, attack and training step against the rivals, in pairs, on this CPU.

Every row is checked for the right answer first. The table is printed and written as JSON below ``results/cpu/``.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import baselines
from benchmarks.paired import Row, copy_speed, paired
from ro_fast import backends
from ro_fast.attacks import PGD
from ro_fast.attacks.mlp import mlp_layers
from ro_fast.config import ModelConfig, SmallLossConfig
from ro_fast.environment import environment, keep_freed_memory
from ro_fast.methods import METHODS, Step
from ro_fast.methods.step import Work
from ro_fast.models import build_model
from ro_fast.ops import class_moments, pgd_mlp, pgd_step, weighted_cross_entropy

EPS, ALPHA, STEPS = 8 / 255, 2 / 255, 10
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures every row, printing each as it comes, and writes them all."""
    keep_freed_memory()  # else the rivals' chains fault their temporaries in at every step, and we, in place, don't
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    path = RESULTS / "cpu" / "operators_attack_training.json"
    for row in itertools.chain(step_rows(), loss_rows(), moments_rows(), mlp_rows(), network_rows()):
        rows.append(row)
        print(line(row), flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"about": about(), "rows": [r.as_json() for r in rows]}, indent=1) + "\n")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def line(row: Row) -> str:
    """A row for people."""
    goal = f"  must {row.must:g}, goal {row.goal:g}" if row.must is not None and row.goal is not None else ""
    noisy = "" if 0.8 <= row.canary <= 1.25 else "  (noisy)"
    spread = f"{row.ratio_p20:.2f} to {row.ratio_p80:.2f}"
    return f"{row.name:42} {row.ours:22} vs {row.rival:24} {row.ratio:6.2f}× ({spread}){goal}{noisy}"


def about() -> dict[str, object]:
    """What the numbers depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    info = cpuinfo().splitlines()
    cpu = next((x.split(":")[1].strip() for x in info if x.startswith("model name")), platform.processor())
    return environment(torch.device("cpu")) | {
        "cpu": cpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "commit": commit.stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0],
        "copy_gb_s": copy_speed(),
    }


def on(backend: str, run: Callable[[], object]) -> tuple[str, Callable[[], object]]:
    """``run`` on a named backend, with its label."""

    def named() -> object:
        with backends.use_backend(backend):
            return run()

    return f"ro_fast {backend}", named


def timed_backends(op: str) -> list[str]:
    """Those that are there and made for speed; Triton on a CPU is an interpreter."""
    found = [name for name in ("native", "reference") if backends.why_not(name, op, "cpu") is None]
    for name in ("native", "triton"):
        if name not in found:
            why = "its interpreter on a CPU is for tests" if name == "triton" else backends.why_not(name, op, "cpu")
            print(f"{op}: {name} is not timed: {why}")
    return found


def inductor(run: Callable[..., object]) -> Callable[..., object]:
    """``torch.compile`` with static shapes, given as much tuning as it takes."""
    return torch.compile(run, fullgraph=True, dynamic=False)


# -- operators ---------------------------------------------------------------------------------------------------------


def step_rows() -> Iterator[Row]:
    x, grad = torch.rand(512, 3, 32, 32), torch.randn(512, 3, 32, 32)
    x_adv = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    delta = x_adv - x
    eager, l2 = baselines.torchattacks_step, baselines.chain_l2
    fused, fused_l2 = inductor(baselines.chain_linf), inductor(l2)
    torch.testing.assert_close(pgd_step(x_adv, x, grad, EPS, ALPHA), eager(x_adv, x, grad, EPS, ALPHA), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        pgd_step(x_adv, x, grad, 0.5, 0.1, norm="l2"), l2(x_adv, x, grad, 0.5, 0.1), rtol=0, atol=1e-6
    )
    # As many bytes as the step moves: three tensors read and one written, against two copies of one.
    both, back = torch.cat([x, grad]), torch.empty(2 * len(x), *x.shape[1:])
    linf_rivals = [
        ("torchattacks chain", lambda: eager(x_adv, x, grad, EPS, ALPHA), {"must": 3, "goal": 5}),
        ("Rice chain", lambda: baselines.rice_step(delta, x, grad, EPS, ALPHA), {"must": 4, "goal": 7}),
        ("Inductor", lambda: fused(x_adv, x, grad, EPS, ALPHA), {"must": 1, "goal": 1.7}),
        ("copy of as many bytes", lambda: back.copy_(both), {"must": 0.6, "goal": 0.85}),
    ]
    l2_rivals = [
        ("torchattacks chain", lambda: l2(x_adv, x, grad, 0.5, 0.1)),
        ("Inductor", lambda: fused_l2(x_adv, x, grad, 0.5, 0.1)),
    ]
    for backend in timed_backends("pgd_step"):
        # In place, as the attack runs it; the rivals' loops can't, or write their perturbation.
        ours = on(backend, lambda: pgd_step(x_adv, x, grad, EPS, ALPHA, out=x_adv))
        for name, rival, target in linf_rivals:
            target = {"target": "C4", **target} if backend == "native" else {}
            yield paired("pgd_step L∞ fp32 [512,3,32,32]", ours, (name, rival), **target)
        ours = on(backend, lambda: pgd_step(x_adv, x, grad, 0.5, 0.1, norm="l2", out=x_adv))
        for name, rival in l2_rivals:
            yield paired("pgd_step L2 fp32 [512,3,32,32]", ours, (name, rival))


def loss_rows() -> Iterator[Row]:
    def backward(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, y: Tensor) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(loss(z, y), z)[0]

    for n, classes in ((128, 10), (4096, 100)):
        z, y = torch.randn(n, classes, requires_grad=True), torch.randint(classes, (n,))
        ours_run, eager_run = backward(weighted_cross_entropy, z, y), backward(F.cross_entropy, z, y)
        torch.testing.assert_close(ours_run(), eager_run())
        fused = backward(inductor(F.cross_entropy), z, y)
        for backend in timed_backends("weighted_cross_entropy"):
            name = f"weighted_cross_entropy + grad [{n},{classes}]"
            yield paired(name, on(backend, ours_run), ("F.cross_entropy", eager_run), seconds=2)
            yield paired(name, on(backend, ours_run), ("Inductor", fused), seconds=2)


def moments_rows() -> Iterator[Row]:
    f, y = torch.randn(10_000, 128), torch.randint(10, (10_000,))
    for covariance in (False, True):
        loop = lambda: baselines.moments_by_mask(f, y, 10, covariance)  # noqa: B023, E731
        ours_run = lambda: class_moments(f, y, 10, covariance=covariance)  # noqa: B023, E731
        torch.testing.assert_close(ours_run().mean, loop()[0])
        if covariance:
            torch.testing.assert_close(ours_run().scatter, loop()[1])
        for backend in timed_backends("class_moments"):
            name = "class_moments [10000,128]" + (" + covariance" if covariance else "")
            target = {"target": "C6", "must": 2, "goal": 4} if covariance and backend == "native" else {}
            yield paired(name, on(backend, ours_run), ("loop of masks", loop), **target)


def mlp_rows() -> Iterator[Row]:
    targets = {
        (784, 256, 256, 10): ({"must": 1.15, "goal": 1.3}, {"must": 1.7, "goal": 2}),
        (512, 10): ({"must": 1.8, "goal": 2.5}, {"must": 3.5, "goal": 5}),
        (2, 64, 64, 2): ({"must": 2, "goal": 3}, {"must": 3.5, "goal": 5}),
    }
    if "native" not in timed_backends("pgd_mlp"):
        return
    torchattacks = import_torchattacks()
    for (widths, (fast, published)), n in itertools.product(targets.items(), (128, 512)):
        layers = [m for i, o in itertools.pairwise(widths) for m in (torch.nn.Linear(i, o), torch.nn.ReLU())]
        model = torch.nn.Sequential(*layers[:-1]).eval()
        x, y = torch.rand(n, widths[0]), torch.randint(widths[-1], (n,))
        check_mlp(model, x, y)
        attack = PGD(EPS, ALPHA, STEPS, engine="eager")

        def fused(x: Tensor, y: Tensor, model: torch.nn.Module) -> Tensor:
            noise = torch.empty_like(x).uniform_(-1, 1)
            return pgd_mlp(x, y, *mlp_layers(model, x), noise, eps=EPS, alpha=ALPHA, steps=STEPS)

        rivals = [
            ("Rice attack", partial(baselines.rice_attack, model, x, y, EPS, ALPHA, STEPS), {"target": "C5", **published}),
            ("our eager engine", partial(attack, model, x, y), {}),
        ]
        if torchattacks:
            theirs = torchattacks.PGD(model, EPS, ALPHA, STEPS)
            rivals.append(("torchattacks", partial(theirs, x, y), {"target": "C5", **fast}))
        for name, rival, target in rivals:
            ours = on("native", partial(fused, x, y, model))
            yield paired(f"pgd_mlp, PGD-10 {'-'.join(map(str, widths))}, batch {n}", ours, (name, rival), seconds=2, **target)


def check_mlp(model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
    """From the same start in float64 the rival and we end in the same place."""
    model, x, y = copy.deepcopy(model).double(), x[:40].double(), y[:40]
    torch.manual_seed(1)
    theirs = x + baselines.rice_attack(model, x, y, EPS, ALPHA, STEPS)
    torch.manual_seed(1)
    noise = torch.zeros_like(x).uniform_(-EPS, EPS) / EPS
    ours = pgd_mlp(x, y, *mlp_layers(model, x), noise, eps=EPS, alpha=ALPHA, steps=STEPS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# -- attack and training step ------------------------------------------------------------------------------------------


def network_rows() -> Iterator[Row]:
    n = 16
    x, y = torch.rand(n, 3, 32, 32), torch.randint(10, (n,))
    config = ModelConfig(name="preact_resnet18")
    plain = build_model(config, (3, 32, 32), 10, [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]).train()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    lean = PGD(EPS, ALPHA, STEPS)
    same = PGD(EPS, ALPHA, STEPS, bn="train", final_forward=True)
    check_attack(plain, x, y)

    rice = ("Rice attack", lambda: baselines.rice_attack(plain.train(), x, y, EPS, ALPHA, STEPS))
    name, long = f"PGD-10 PreActResNet-18 fp32, batch {n}", {"seconds": 12.0, "at_least": 3}
    yield paired(name, ("PGD, train BN, NCHW", lambda: same(plain, x, y)), rice, target="C1", must=1.5, goal=1.65, **long)
    ours = ("PGD, eval, channels_last", lambda: lean(last, x_last, y))
    yield paired(name, ours, rice, target="C1", must=1.7, goal=2.0, **long)
    if torchattacks := import_torchattacks():
        rival = torchattacks.PGD(plain.eval(), EPS, ALPHA, STEPS)
        yield paired(name, ours, ("torchattacks", lambda: rival(x, y)), target="C2", must=1.1, goal=1.3, **long)

    sgd = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4}
    published = baselines.rice_training_step(torch.optim.SGD(plain.parameters(), **sgd), [].append)
    rival_step = ("Rice step", lambda: published(plain, x, y, EPS, ALPHA, STEPS))
    name = f"training step PreActResNet-18, batch {n}"
    for label, attack, images, precision, must, goal in (
        ("rice2020, fp32", same, x, "fp32", 1.4, 1.55),
        ("lean, fp32", lean, x_last, "fp32", 1.6, 2.0),
        ("lean, bf16", lean, x_last, "bf16", 2.6, 3.5),
    ):
        if precision == "bf16" and not has_bf16():
            print(f"{name}: {label} is not timed: this CPU has no AVX512_BF16")
            continue
        model = copy.deepcopy(plain if images is x else last).train()
        ours = (label, training_step(model, torch.optim.SGD(model.parameters(), **sgd, fused=True), attack, images, y, precision))
        yield paired(name, ours, rival_step, target="C7", must=must, goal=goal, **long)


def training_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, attack: PGD, x: Tensor, y: Tensor, precision: str
) -> Callable[[], None]:
    """The trainer's step: decide, descend, and the natural forward where the recipe has one."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = METHODS["baseline"](Step(model, attack, x, y, SmallLossConfig(), Work()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if attack.final_forward:
            with torch.no_grad():
                model(x)

    return run


def check_attack(model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
    """No speed for an attack that is weaker than its rival: from the same start in float64, both end in the same place."""
    model = copy.deepcopy(model).double().eval()
    x = x[:4].double()
    torch.manual_seed(1)
    theirs = x + baselines.rice_attack(model, x, y[:4], EPS, ALPHA, STEPS)
    torch.manual_seed(1)
    noise = torch.zeros_like(x).uniform_(-EPS, EPS) / EPS
    ours = PGD(EPS, ALPHA, STEPS)(model, x, y[:4], noise=noise)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def import_torchattacks():  # type: ignore[no-untyped-def]
    try:
        import torchattacks
    except ImportError as error:
        print(f"torchattacks is not timed: {error} (pip install --no-deps torchattacks)")
        return None
    return torchattacks


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return "avx512_bf16" in cpuinfo()


def cpuinfo() -> str:
    """What Linux tells of the CPU, "" elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
