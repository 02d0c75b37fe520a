"""``python -m ro_fast.benchmarks.architectures``: what the default engine does with public networks, as a table.

Needs torchvision, timm and pytorchcv beside ro_fast, in an environment of the torch that torchvision was built against. Each
network is a row: the engine that "auto" takes and its passes, its error against autograd in float64, and the time of an
attack in float32 against autograd and against torch.compile, in pairs. Rows that are there already are kept, so that a run
that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.engines import ENGINES
from ro_fast.config import ModelConfig
from ro_fast.environment import keep_freed_memory
from ro_fast.models import build_model
from ro_fast.ops import margin_loss
from ro_fast.storage.records import as_json, parse

from .paired import paired
from .run import RESULTS, about

STEPS = 10
LEAST = 0.98  # of eager's speed, which no network should fall below
FILE = RESULTS / "cpu" / "architectures.jsonl"

OURS = ("small_cnn", "preact_resnet18")
CIFAR = (
    "nin", "resnet20", "resnet56", "resnet164bn", "preresnet20", "preresnet56", "preresnet164bn", "resnext20_16x4d",
    "resnext29_32x4d", "seresnet20", "seresnet56", "sepreresnet20", "sepreresnet56", "pyramidnet110_a48", "densenet40_k12",
    "densenet40_k12_bc", "densenet100_k12_bc", "xdensenet40_2_k24_bc", "wrn16_10", "wrn20_10_32bit", "ror3_56", "rir",
    "msdnet22", "resdropresnet20", "shakeshakeresnet20_2x16d", "shakedropresnet20", "fractalnet", "diaresnet20",
    "diapreresnet20",
)  # fmt: skip
TORCHVISION = (
    "alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet", "squeezenet1_1",
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x1_0",
    "mnasnet1_0", "convnext_tiny", "swin_t", "vit_b_32",
)  # fmt: skip
TIMM = (
    "resnet26d", "resnetv2_50", "nf_resnet26", "seresnet18", "ecaresnet26t", "skresnet18", "res2net50_26w_4s", "dla34", "dpn68",
    "hrnet_w18_small", "repvgg_a0", "mobilenetv3_small_100", "mobilenetv4_conv_small", "ghostnet_100", "tinynet_e",
    "rexnet_100", "mixnet_s", "efficientnet_lite0", "convnextv2_atto", "edgenext_xx_small", "fastvit_t8", "inception_next_tiny",
    "poolformer_s12", "mobilevit_xxs", "levit_128s", "efficientformer_l1", "vit_tiny_patch16_224", "deit3_small_patch16_224",
    "mixer_s16_224", "resmlp_12_224", "xcit_nano_12_p16_224", "coat_tiny",
)  # fmt: skip
WHOLE = ("vit", "deit3", "mixer", "resmlp", "xcit", "coat", "levit", "efficientformer")  # with a fixed input size


@dataclass(frozen=True)
class Architecture:
    """A public network and the inputs on which it is attacked."""

    name: str
    source: str
    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    batch: int


def architectures() -> Iterator[Architecture]:
    """All networks, except those of packages that are not installed."""
    for name in OURS:
        yield Architecture(name, "ro_fast", functools.partial(_ours, name), (3, 32, 32), 64 if name == "small_cnn" else 16)
    with contextlib.suppress(ImportError):
        from pytorchcv.model_provider import get_model

        for name in CIFAR:
            yield Architecture(name, "pytorchcv", functools.partial(get_model, f"{name}_cifar10"), (3, 32, 32), 16)
    with contextlib.suppress(ImportError):
        import torchvision

        for name in TORCHVISION:
            side = 224 if name == "vit_b_32" else 96
            build = functools.partial(torchvision.models.get_model, name, weights=None, num_classes=10)
            yield Architecture(name, "torchvision", build, (3, side, side), 4 if side == 224 else 16)
    with contextlib.suppress(ImportError):
        import timm

        for name in TIMM:
            side = 224 if name.startswith(WHOLE) else 96
            build = functools.partial(timm.create_model, name, num_classes=10)
            yield Architecture(name, "timm", build, (3, side, side), 4 if side == 224 else 16)


def _ours(name: str) -> nn.Module:
    return build_model(ModelConfig(name=name), (3, 32, 32), 10, [0.49, 0.48, 0.45], [0.25, 0.24, 0.26])


@dataclass(frozen=True)
class Row:
    """The measurements of one network."""

    name: str
    source: str
    input: list[int]
    engine: str  # chosen by "auto"
    passes: str  # of the rewritten graph
    reason: str  # why it is not rewritten
    error: float  # of the input gradient in float64, relative
    eager: float  # eager's time relative to that of "auto", and its spread over pairs
    eager_p20: float
    eager_p80: float
    ours_ms: float
    ours_mb: float
    eager_mb: float
    about: dict[str, object]
    compiled: float | str | None = None  # torch.compile's time relative to that of "auto", or why there is none
    compiled_p20: float | None = None
    compiled_p80: float | None = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it does not exist."""
    return [parse(Row, json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def measure(architecture: Architecture) -> Row:
    """One row of the table, without torch.compile."""
    model, x, run = ready(architecture)
    told = PGD().explain(model, x).splitlines()
    engine = told[0].split()[1]
    fused = engine == "fused"
    error = error_in_float64(model, x[:2])
    found = paired(architecture.name, run["auto"], run["eager"], seconds=6.0, at_least=3)
    return Row(
        name=architecture.name,
        source=architecture.source,
        input=[len(x), *architecture.shape],
        engine=engine,
        passes=told[-1].removeprefix("its graph: ").split(";")[0] if fused else "",
        reason="" if fused else next(line for line in told if "fused:" in line).split("fused: ")[-1],
        error=error,
        eager=found.ratio,
        eager_p20=found.ratio_p20,
        eager_p80=found.ratio_p80,
        ours_ms=found.ours_ms,
        ours_mb=found.ours_mb,
        eager_mb=found.rival_mb,
        about=about(),
    )


def against_compile(row: Row, architecture: Architecture) -> Row:
    """Adds torch.compile to the row, which takes a minute or more to generate its code."""
    _, _, run = ready(architecture)
    try:
        run["compiled"][1]()
    except Exception as error:  # whatever torch.compile raises
        return replace(row, compiled=f"fails: {type(error).__name__}")
    found = paired(architecture.name, run["auto"], run["compiled"], seconds=6.0, at_least=3)
    return replace(row, compiled=found.ratio, compiled_p20=found.ratio_p20, compiled_p80=found.ratio_p80)


def ready(architecture: Architecture) -> tuple[nn.Module, Tensor, dict[str, tuple[str, Callable[[], Tensor]]]]:
    """The network, its inputs, and attacks by engine, after the first calls, each of which is proven."""
    torch.manual_seed(0)
    model = architecture.build().eval()
    _settle(model, architecture.shape)
    x, y = torch.rand(architecture.batch, *architecture.shape), torch.randint(10, (architecture.batch,))
    for _ in range(8):
        PGD(steps=1)(model, x, y)
    attacks = {engine: PGD(steps=STEPS, engine=engine) for engine in ("auto", "eager", "compiled")}
    return model, x, {engine: (engine, functools.partial(attack, model, x, y)) for engine, attack in attacks.items()}


def _settle(model: nn.Module, shape: tuple[int, ...]) -> None:
    """A few forwards in train mode, so that BatchNorm's statistics match its inputs and values keep their scale."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = 0.5
    with torch.no_grad():
        for _ in range(8):
            model(torch.rand(8, *shape))
    model.eval()


def error_in_float64(model: nn.Module, x: Tensor) -> float:
    """The relative error of the input gradient of the engine chosen by "auto", compared with autograd."""
    model, x, y = copy.deepcopy(model).double().eval(), x.double(), torch.zeros(len(x), dtype=torch.int64)
    for p in model.parameters():
        p.requires_grad_(False)
    loss = lambda logits, y: margin_loss(logits, y, reduction="sum")  # noqa: E731
    plan = PGD().plan(model, y)
    engine = ENGINES["fused"] if ENGINES["fused"].why_not(model, x, plan) is None else ENGINES["eager"]
    ours, theirs = (e.functions(model, x, plan, loss)[1](x, y) for e in (engine, ENGINES["eager"]))
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-300))


def table(rows: list[Row]) -> str:
    """The rows as Markdown, with a summary."""
    gain = sum(row.eager >= 2 - LEAST for row in rows)
    lose = [row.name for row in rows if row.eager < LEAST]
    compiled = [row for row in rows if row.compiled is not None]
    won = sum(isinstance(row.compiled, float) and row.compiled > 1 for row in compiled)
    failed = sum(isinstance(row.compiled, str) for row in compiled)
    lines = [
        "# The default engine on public networks",
        "",
        f"{len(rows)} networks, PGD-{STEPS} in float32 on one thread of {rows[0].about['cpu']}, in pairs. Weights are random;",
        "BatchNorm statistics are those of its inputs. Above 1, the default is faster. The error is the relative error of the",
        "input gradient against float64 autograd. `fused` is the traced and rewritten graph. Memory: peak in 2²⁰ bytes.",
        "",
        f"{gain} of {len(rows)} gain 2 % or more, {len(lose)} lose as much{': ' + ', '.join(lose) if lose else ''}.",
        f"Against torch.compile, {len(compiled)} of {len(rows)} were measured, beside other work: the default is faster on {won}"
        f"{f', and {failed} do not compile' if failed else ''}; the time to compile is not in it.",
        "Made by `python -m ro_fast.benchmarks.architectures`; every figure is in architectures.jsonl.",
        "",
        "| network | inputs | engine | passes | error | against eager | against torch.compile | memory, eager's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        passes = functools.reduce(lambda text, words: text.replace(*words), _SHORT.items(), row.passes)
        rival = row.compiled
        cells = [
            f"{row.name} ({row.source})", "×".join(map(str, row.input)), row.engine, passes or row.reason,
            f"{row.error:.0e}", f"{row.eager:.2f}", f"{rival:.2f}" if isinstance(rival, float) else rival or "",
            f"{row.ours_mb:.0f}, {row.eager_mb:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_SHORT = {
    "sums in place": "sums",
    "mean over positions": "mean",
    "channels last": "last",
    "convolutions prepared": "convolutions",
}


def main() -> None:
    """Measures whatever is not yet in the file, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--compiled", action="store_true", help="adds torch.compile to the rows, a minute or more each")
    args = parser.parse_args()
    logging.getLogger("ro_fast").setLevel(logging.ERROR)
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = {(row.source, row.name): row for row in read_rows(args.out)}
    for architecture in architectures():
        key = architecture.source, architecture.name
        row = rows.get(key)
        wanted = row is not None and row.compiled is None if args.compiled else row is None
        if not wanted or not re.search(args.only, architecture.name):
            continue
        try:
            rows[key] = measure(architecture) if row is None else against_compile(row, architecture)
        except Exception as error:  # a network that does not run here must not affect the others
            print(f"{architecture.name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        print(json.dumps(as_json(replace(rows[key], about={}))), flush=True)
        args.out.write_text("".join(json.dumps(as_json(row)) + "\n" for row in rows.values()), encoding="utf-8")
        args.out.with_suffix(".md").write_text(table(list(rows.values())), encoding="utf-8")


if __name__ == "__main__":
    main()
