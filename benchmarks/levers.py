"""``python -m benchmarks.levers``: from the published training step to ours, one lever at a time, as a figure and JSON."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch

from ro_fast.attacks import PGD
from ro_fast.attacks.engines import layers
from ro_fast.config import SmallLossConfig
from ro_fast.environment import keep_freed_memory
from ro_fast.methods import METHODS, Step
from ro_fast.methods.step import Work
from ro_fast.ops import backends

from . import baselines
from .machine import has_bf16
from .networks import ALPHA, EPS, SGD, STEPS, Bench
from .run import RESULTS, about

ROUNDS = 7


def main() -> None:
    """Times every variant in turn, round after round, and draws the medians."""
    if reason := backends.why_not("native", "affine_relu", "cpu"):
        raise SystemExit(f"levers: the compiled operators are among them, and there are none: {reason}")
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    variants = steps(Bench())
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds))
    rows = [
        {
            "step": name,
            "seconds": statistics.median(times),
            "speedup": statistics.median(a / b for a, b in zip(seconds[first], times, strict=True)),
        }
        for name, times in seconds.items()
    ]
    for row in rows:
        print(f"{row['step']:48} {row['seconds']:6.2f} s  {row['speedup']:5.2f}×")
    folder = RESULTS / "cpu"
    (folder / "levers.json").write_text(json.dumps({"about": about(), "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    draw(rows, folder / "levers.png")


def steps(bench: Bench) -> dict[str, Callable[[], None]]:
    """Training steps of PreActResNet-18, each with one more lever than the one before; a rival's step is in between."""
    published = baselines.rice_training_step(torch.optim.SGD(bench.plain.parameters(), **SGD), [].append)
    train, eager, fused = (PGD(EPS, ALPHA, STEPS, bn=bn, engine=engine) for bn, engine in _MODES)
    found = {
        "published loop (Rice et al.)": lambda: published(bench.plain, bench.x, bench.y, EPS, ALPHA, STEPS),
        "+ no weight gradients, no spare forwards": ours(bench, train, channels_last=False),
        "+ BatchNorm in eval mode during the attack": ours(bench, eager, channels_last=False),
        "+ channels last": ours(bench, eager),
        "+ folded BatchNorm, bits for ReLU, packed weights": without_winograd(ours(bench, fused)),
        "+ Winograd's form of 3×3 convolutions": ours(bench, fused),
        "rival: torch.compile's attack, fp32": compiled(bench, "fp32"),
    }
    if has_bf16():
        found["bf16 in place of Winograd's form"] = ours(bench, fused, "bf16")
        found["rival: torch.compile's attack, bf16"] = compiled(bench, "bf16")
    return found


_MODES = (("train", "eager"), ("eval", "eager"), ("eval", "fused"))


def ours(bench: Bench, attack: PGD, precision: str = "fp32", channels_last: bool = True) -> Callable[[], None]:
    """The trainer's step with this attack."""
    model = copy.deepcopy(bench.last if channels_last else bench.plain).train()
    x = bench.x_last if channels_last else bench.x
    optimizer = torch.optim.SGD(model.parameters(), **SGD, fused=True)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = METHODS["baseline"](Step(model, attack, x, bench.y, SmallLossConfig(), Work()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def without_winograd(run: Callable[[], None]) -> Callable[[], None]:
    """The step with oneDNN's convolutions throughout."""

    def without() -> None:
        with mock.patch.object(layers, "winograd_pays", return_value=False):
            run()

    return without


def compiled(bench: Bench, precision: str) -> Callable[[], None]:
    """A step around the strongest compiled attack, channels last; its training pass is compiled too."""
    model = copy.deepcopy(bench.last).train()
    attack = baselines.compiled_attack(model, EPS, ALPHA, STEPS)
    optimizer = torch.optim.SGD(model.parameters(), **SGD, fused=True)
    forward = torch.compile(model, dynamic=False)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            x_adv = attack(bench.x_last, bench.y)
            loss = torch.nn.functional.cross_entropy(forward(x_adv), bench.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def draw(rows: list[dict], path: object) -> None:
    """Horizontal bars, longest first, with the rival in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.5 * len(rows) + 1.1), layout="constrained")
    names = [row["step"] for row in rows]
    colours = ["0.45" if name.startswith(("published", "rival")) else "tab:blue" for name in names]
    bars = axes.barh(names, [row["seconds"] for row in rows], color=colours)
    axes.bar_label(bars, [f"{row['seconds']:.2f} s, {row['speedup']:.1f}×" for row in rows], padding=4)
    axes.invert_yaxis()
    axes.set_title("One training step: PGD-10, PreActResNet-18, batch 16, one CPU thread", fontsize=11, loc="right")
    axes.set_xlabel("seconds")
    axes.set_xlim(0, 1.3 * max(row["seconds"] for row in rows))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)  # type: ignore[arg-type]
    plt.close(figure)


if __name__ == "__main__":
    main()
