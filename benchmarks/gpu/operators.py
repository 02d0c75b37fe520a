"""Operators by backend compared with a copy, Inductor and torch, with a cold L2 cache: G5; launches, G6; host time, G12.

No speed for a wrong operator: each is first compared with float64 on the samples used by its tests.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from ro_fast.attacks import PGD
from ro_fast.ops import (
    affine_relu,
    affine_relu_backward,
    backends,
    class_moments,
    pgd_init,
    pgd_step,
    weighted_cross_entropy,
    weighted_kl,
)
from ro_fast.testing import assert_close, samples

from .. import baselines
from ..networks import ALPHA, EPS, STEPS
from .attacks import engines
from .session import Run, Session


@dataclass(frozen=True)
class Case:
    """One call, the minimum number of bytes it has to move, and other ways to the same result."""

    op: str
    name: str
    run: Run
    bytes: int
    rivals: dict[str, Run]
    key: str | None = "G5"  # of its target


def float32(session: Session) -> None:
    """G5."""
    of_dtype(session, torch.float32)


def bfloat16(session: Session) -> None:
    """G5."""
    of_dtype(session, torch.bfloat16)


def of_dtype(session: Session, dtype: torch.dtype) -> None:
    """Rows of every operator on every backend, and of its target for the backend that a user gets."""
    session.precision(tf32=False)
    flush = torch.empty(session.pick(2**28, 2**10), dtype=torch.uint8, device=session.device)
    source = torch.rand(session.pick(2**25, 2**10), device=session.device).to(dtype)
    target, kind = torch.empty_like(source), str(dtype).removeprefix("torch.")
    copy = 2 * source.nbytes / session.median(lambda: target.copy_(source), flush)
    for case in (*steps(session, dtype), *layers(session, dtype), *features(session, dtype)):

        def one(case: Case = case) -> None:
            name = f"{case.name}, {kind}"
            times = {backend: timed(session, case, dtype, backend, flush) for backend in timed_backends(session, case.op)}
            rivals = {rival: session.median(run, flush) for rival, run in case.rivals.items()}
            for who, ms in (times | rivals).items():
                session.rows.put("operator", f"{name}: {who}", ms=ms, gb_s=case.bytes / ms / 1e6, of_copy=case.bytes / ms / copy)
            default = backends.running(case.op, session.device)
            if case.key is None:
                return
            if case.key == "G5/loss":
                fastest = min(rivals, key=lambda rival: rivals[rival])
                session.rows.target(case.key, name, rivals[fastest] / times[default], ours=default, rival=fastest)
            else:
                session.rows.target(case.key, name, case.bytes / times[default] / copy, ours=default, rival="copy")

        session.guarded(f"{case.name}, {kind}", one)


def timed_backends(session: Session, op: str) -> list[str]:
    """The default one and, on a GPU, the other compiled one; a CPU's Triton is an interpreter, for tests."""
    default = backends.running(op, session.device)
    others = [name for name in ("native", "triton") if not session.dry and backends.why_not(name, op, session.device) is None]
    return list(dict.fromkeys([default, *others]))


def timed(session: Session, case: Case, dtype: torch.dtype, backend: str, flush: Tensor) -> float:
    """Median milliseconds on a backend, after checking its result.

    Raises:
        AssertionError: if it is wrong.
    """
    for sample in itertools.islice(samples(case.op, dtype, session.device), session.pick(None, 2)):
        with backends.use_backend("reference"):
            reference = sample.run()
        with backends.use_backend(backend):
            assert_close(sample.run(), reference, sample.truth(), dtype, sample)
    with backends.use_backend(backend), torch.no_grad():
        return session.median(case.run, flush)


def inductor(session: Session, run: Callable[..., object]) -> Callable[..., object]:
    """``torch.compile`` with static shapes."""
    return torch.compile(run, fullgraph=True, dynamic=False, backend=session.pick("inductor", "aot_eager"))


def steps(session: Session, dtype: torch.dtype) -> list[Case]:
    """Operators that move inputs; no tensor twice, since it would be read once. Rows of L2 norms fit a cache: read once too."""
    shape = session.pick(8192, 4), 3, 32, 32
    x, noise = (torch.rand(shape, device=session.device).to(dtype) for _ in range(2))
    x_adv, grad, out, size = x.clone(), noise - 0.5, torch.empty_like(x), x.nbytes
    chain = inductor(session, baselines.chain_linf)
    return [
        Case("pgd_step", "pgd_step L∞ [8192,3,32,32]", lambda: pgd_step(x_adv, x, grad, EPS, ALPHA, out=out), 4 * size,
             {"Inductor": lambda: chain(x_adv, x, grad, EPS, ALPHA)}),
        Case("pgd_step", "pgd_step L2 [8192,3,32,32]", lambda: pgd_step(x_adv, x, grad, 0.5, 0.1, norm="l2", out=out),
             4 * size, {}),
        Case("pgd_init", "pgd_init [8192,3,32,32]", lambda: pgd_init(x, EPS, noise), 3 * size, {}),
    ]  # fmt: skip


def layers(session: Session, dtype: torch.dtype) -> list[Case]:
    """BatchNorm and ReLU as one map, forward and backward, channels last."""
    shape = session.pick(512, 2), 64, 32, 32
    x = torch.randn(shape, device=session.device).to(dtype).contiguous(memory_format=torch.channels_last)
    grad, out = torch.randn_like(x), torch.empty_like(x)
    scale, shift = torch.rand(2, 64, device=session.device)
    bits, size = affine_relu(x, scale, shift)[1], x.nbytes
    map_ = inductor(session, lambda x, a, b: torch.relu(x * a.view(-1, 1, 1) + b.view(-1, 1, 1)))
    rivals = {"Inductor, no bits": lambda: map_(x, scale.to(dtype), shift.to(dtype))}
    name = "[512,64,32,32], channels_last"
    return [
        Case("affine_relu", f"affine_relu {name}", lambda: affine_relu(x, scale, shift, out=out), 2 * size + bits.nbytes, rivals),
        Case("affine_relu_backward", f"affine_relu_backward {name}", lambda: affine_relu_backward(grad, bits, scale, out=out),
             2 * size + bits.nbytes, {}),
    ]  # fmt: skip


def features(session: Session, dtype: torch.dtype) -> list[Case]:
    """Moments of features by class, and losses of many and of few classes."""
    n = session.pick(65536, 64)
    rows, other, few_classes = (torch.randn(n, d, device=session.device).to(dtype) for d in (512, 512, 10))
    many, few = torch.randint(512, (n,), device=session.device), torch.randint(10, (n,), device=session.device)
    weight, size = torch.rand(n, device=session.device), rows.nbytes

    def cross_entropy(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return (F.cross_entropy(z.float(), y, reduction="none") * w).mean()

    def divergence(z: Tensor, t: Tensor) -> Tensor:
        log_p, log_t = (torch.log_softmax(v.float(), 1) for v in (z, t))
        return F.kl_div(log_p, log_t, reduction="batchmean", log_target=True)

    fused, fused_kl = inductor(session, cross_entropy), inductor(session, divergence)

    def rivals(z: Tensor, y: Tensor) -> dict[str, Run]:
        return {"Inductor": lambda: fused(z, y, weight), "F.cross_entropy, no weights": lambda: F.cross_entropy(z, y)}

    return [
        Case("class_moments", "class_moments [65536,512]", lambda: class_moments(rows, few, 10), size, {}, "G5/class_moments"),
        Case("class_moments", "class_moments and covariances [65536,512]", lambda: class_moments(rows, few, 10, covariance=True),
             size, {}, None),  # bound by its N·D² products
        Case("weighted_cross_entropy", "weighted_cross_entropy [65536,512]", lambda: weighted_cross_entropy(rows, many, weight),
             size, rivals(rows, many), "G5/loss"),
        Case("weighted_cross_entropy", "weighted_cross_entropy [65536,10]",
             lambda: weighted_cross_entropy(few_classes, few, weight), few_classes.nbytes, rivals(few_classes, few), "G5/loss"),
        Case("weighted_kl", "weighted_kl [65536,512]", lambda: weighted_kl(rows, other), 2 * size,
             {"Inductor": lambda: fused_kl(rows, other)}, "G5/loss"),
    ]  # fmt: skip


def calls(session: Session) -> None:
    """G12: the host time of a call, before its kernel is done."""
    x, grad = torch.rand(2, 128, 3, 32, 32, device=session.device)
    logits, y = torch.randn(128, 10, device=session.device, requires_grad=True), torch.randint(10, (128,), device=session.device)
    maps = torch.randn(128, 64, 32, 32, device=session.device)
    scale = torch.rand(64, device=session.device)
    runs: dict[str, Run] = {
        "pgd_step": lambda: pgd_step(x, x, grad, EPS, ALPHA, out=x),
        "loss": lambda: torch.autograd.grad(weighted_cross_entropy(logits, y, reduction="sum"), logits),
        "F.cross_entropy and its gradient": lambda: torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), logits),
        "affine_relu": lambda: affine_relu(maps, scale, scale),
        "torch.relu": lambda: torch.relu(maps),
    }
    count = session.pick(500, 2)
    for name, run in runs.items():
        for _ in range(session.pick(50, 1)):
            run()
        session.wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        us = (time.perf_counter() - start) / count * 1e6
        session.wait()
        session.rows.put("call", name, host_us=us)
        if name in ("pgd_step", "loss"):
            session.rows.target(f"G12/{name}", f"{name}, host microseconds a call", us)


def launches(session: Session) -> None:
    """G6: the loss, its gradient and the step of one step of an attack."""
    x, grad = torch.rand(2, 128, 3, 32, 32, device=session.device)
    logits, y = torch.randn(128, 10, device=session.device, requires_grad=True), torch.randint(10, (128,), device=session.device)

    def step() -> None:
        torch.autograd.grad(weighted_cross_entropy(logits, y, reduction="sum"), logits)
        pgd_step(x, x, grad, EPS, ALPHA, out=x)

    step()
    with profile(activities=[session.pick(ProfilerActivity.CUDA, ProfilerActivity.CPU)]) as record:
        step()
        session.wait()
    found = {e.key: e.count for e in record.key_averages() if session.ran_here(e)}
    session.rows.target("G6/launches", "launches of a step outside the model", float(sum(found.values())), kernels=list(found))


def mlps(session: Session) -> None:
    """PGD-10 on MLPs by every engine compared with torchattacks' loop; no target of its own."""
    session.precision(tf32=False)
    for widths, batch in itertools.product(((784, 256, 256, 10), (512, 10), (2, 64, 64, 2)), (128, 4096)):
        parts = [m for i, o in itertools.pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
        model = nn.Sequential(*parts[:-1]).to(session.device).eval()
        n = session.pick(batch, 8)
        x, y = torch.rand(n, widths[0], device=session.device), torch.randint(widths[-1], (n,), device=session.device)

        runs: dict[str, Run] = {"torchattacks' loop": functools.partial(torchattacks_loop, model, x, y)}
        for engine in ("auto", *engines(model, x)):
            runs[engine] = functools.partial(PGD(EPS, ALPHA, STEPS, engine=engine), model, x, y)
        session.race(f"PGD-10, MLP {'-'.join(map(str, widths))}, batch {batch}", runs, rounds=7, seconds=0.5)


def torchattacks_loop(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Its loop, reimplemented: the package takes images only."""
    x_adv = x
    for _ in range(STEPS):
        leaf = x_adv.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
        x_adv = baselines.torchattacks_step(leaf, x, grad, EPS, ALPHA)
    return x_adv


MEASUREMENTS = {f.__name__: f for f in (launches, calls, float32, bfloat16, mlps)}
