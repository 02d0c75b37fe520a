"""PGD-10 on PreActResNet-18 compared with published loops and the strongest use of torch.compile: G1, G2, G3 and G9."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from ro_fast.attacks import PGD
from ro_fast.attacks.pgd import ENGINES
from ro_fast.config import ModelConfig

from .. import baselines
from ..networks import ALPHA, EPS, STEPS, Bench, check_attack
from .session import Run, Session

DEFAULT, RICE, ATTACKS, STRONGEST = "default, bf16", "Rice et al., TF32", "torchattacks, bf16", "torch.compile, one graph, bf16"


def network(session: Session, batch: int) -> Bench:
    """PreActResNet-18 (in a dry run with few channels) and a batch."""
    config = ModelConfig(name="preact_resnet18") if not session.dry else ModelConfig(name="small_cnn", width=8)
    return Bench(session.device, session.pick(batch, 4), config)


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Run:
    """The package's own PGD, in eval mode."""
    import torchattacks

    attack = torchattacks.PGD(model, EPS, ALPHA, STEPS)

    def run() -> Tensor:
        model.eval()
        return attack(x, y)

    return run


def strongest(session: Session, model: nn.Module, x: Tensor, y: Tensor) -> Run:
    """torch.compile's code for forward, input gradient and step, all steps in one CUDA graph, in bf16."""
    attack = baselines.compiled_attack(model, EPS, ALPHA, STEPS, backend=session.pick("inductor", "aot_eager"))
    kept: list[Callable[[], Tensor]] = []

    def run() -> Tensor:
        if not kept:
            kept.append(session.captured(session.half(lambda: attack(x, y))))
        return kept[0]()

    return run


def contenders(session: Session, bench: Bench) -> dict[str, Run]:
    """Everything in bf16 and channels last, and published code as it was."""

    def adv_lib() -> Tensor:
        return baselines.adv_lib_attack(bench.last.eval(), bench.x_last, bench.y, EPS, ALPHA, STEPS)

    runs = {DEFAULT: bench.ours(PGD(EPS, ALPHA, STEPS), "bf16"), STRONGEST: strongest(session, bench.last, bench.x_last, bench.y)}
    runs["adv-lib's loop, bf16"] = session.half(adv_lib)
    for engine in engines(bench.last, bench.x_last):
        runs[f"{engine}, bf16"] = bench.ours(PGD(EPS, ALPHA, STEPS, engine=engine), "bf16")
    return runs


def engines(model: nn.Module, x: Tensor) -> list[str]:
    """Those that can attack this network, except "auto" and "compiled": one is the default, the other takes long to compile."""
    told = PGD().explain(model, x)
    return [name for name in ENGINES if name not in ("auto", "compiled") and f"{name}: available" in told]


def batch_128(session: Session) -> None:
    """G1, G2 and G3."""
    session.precision(tf32=True)
    bench = network(session, 128)
    check_attack(bench.plain, bench.x, bench.y)
    runs = contenders(session, bench)
    runs[RICE] = bench.rice
    runs["torchattacks, TF32"] = torchattacks_pgd(bench.plain, bench.x, bench.y)
    runs[ATTACKS] = session.half(torchattacks_pgd(bench.last, bench.x_last, bench.y))
    runs["default, TF32"] = bench.ours(PGD(EPS, ALPHA, STEPS))
    runs["default, train-mode BatchNorm, bf16"] = bench.ours(PGD(EPS, ALPHA, STEPS, bn="train"), "bf16")
    name = "PGD-10, batch 128"
    times = session.race(name, runs, seconds=12)
    for key, rival in (("G1", RICE), ("G2", ATTACKS), ("G3/128", STRONGEST)):
        session.faster(key, name, times, DEFAULT, rival)


def batch_512(session: Session) -> None:
    """G3 at a larger batch."""
    session.precision(tf32=True)
    times = session.race("PGD-10, batch 512", contenders(session, network(session, 512)), seconds=4)
    session.faster("G3/512", "PGD-10, batch 512", times, DEFAULT, STRONGEST)


def memory(session: Session) -> None:
    """G9: each with a network of its own, so that no graph exists before it is counted."""
    session.precision(tf32=True)

    def ours(engine: str) -> Run:
        return network(session, 128).ours(PGD(EPS, ALPHA, STEPS, engine=engine), "bf16")

    def theirs() -> Run:
        bench = network(session, 128)
        return session.half(torchattacks_pgd(bench.last, bench.x_last, bench.y))

    def rice() -> Run:
        return network(session, 128).rice

    name = "PGD-10, batch 128, memory"
    bench = network(session, 128)
    needed = session.memory(f"{name}: {ATTACKS}", theirs)
    session.memory(f"{name}: {RICE}", rice)
    for engine in engines(bench.last, bench.x_last):
        session.memory(f"{name}: {engine}, bf16", functools.partial(ours, engine))
    session.rows.target("G9/attack", name, session.memory(f"{name}: {DEFAULT}", functools.partial(ours, "auto")) / needed)


def strict(session: Session) -> None:
    """Without TF32, as required for an evaluation in fp32."""
    session.precision(tf32=False)
    bench = network(session, 128)
    runs = {"Rice et al., fp32": bench.rice, "default, fp32": bench.ours(PGD(EPS, ALPHA, STEPS))}
    session.race("PGD-10, batch 128, strict fp32", runs, rounds=5, seconds=3)


def bounds(session: Session) -> None:
    """Lower bounds for any attack on torch's kernels: a copy, a product, one forward and input gradient under a graph."""
    session.precision(tf32=True)
    source = torch.rand(session.pick(2**28, 2**10), device=session.device)
    target = torch.empty_like(source)
    ms = session.median(lambda: target.copy_(source))
    session.rows.put("bound", "copy of 1 GiB", ms=ms, gb_s=2 * source.nbytes / ms / 1e6)
    n = session.pick(8192, 64)
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, n, n, device=session.device, dtype=dtype)
        ms = session.median(lambda: a @ b, rounds=8)  # noqa: B023
        session.rows.put("bound", f"matrix product [{n}, {n}] {dtype}", ms=ms, tflop_s=2 * n**3 / ms / 1e9)
    for batch in (128, 512):
        bench = network(session, batch)
        model, x = copy.deepcopy(bench.last).eval().requires_grad_(False), bench.x_last.clone().requires_grad_()

        def gradient() -> Tensor:
            return torch.autograd.grad(F.cross_entropy(model(x), bench.y, reduction="sum"), x)[0]  # noqa: B023

        ms = session.median(session.captured(session.half(gradient)))
        session.rows.put("bound", f"forward and input gradient, batch {batch}, bf16", ms=ms)


def kernels(session: Session) -> None:
    """Where the time of one default attack goes: the device's kernels, longest first."""
    session.precision(tf32=True)
    run = network(session, 128).ours(PGD(EPS, ALPHA, STEPS), "bf16")
    for _ in range(3):
        run()
    session.wait()
    activity, spent_in = session.pick(
        (ProfilerActivity.CUDA, "self_device_time_total"), (ProfilerActivity.CPU, "self_cpu_time_total")
    )
    with profile(activities=[activity]) as record:
        run()
        session.wait()
    spent = {e.key: (getattr(e, spent_in), e.count) for e in record.key_averages() if session.ran_here(e)}
    total = {"ms": sum(us for us, _ in spent.values()) / 1e3, "launches": sum(count for _, count in spent.values())}
    session.rows.put("kernel", "all of an attack", **total)
    for name, (us, count) in sorted(spent.items(), key=lambda item: -item[1][0])[:20]:
        session.rows.put("kernel", name[:120], ms=us / 1e3, launches=count)


MEASUREMENTS = {f.__name__: f for f in (batch_128, batch_512, memory, strict, bounds, kernels)}
