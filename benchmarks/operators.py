"""Operators by backend against eager chains and Inductor on the same maths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ro_fast.features.statistics import linear_cka
from ro_fast.ops import backends, class_moments, pgd_step, weighted_cross_entropy, winograd_conv, winograd_weights
from ro_fast.ops._torch_private import mkldnn

from . import baselines
from .paired import Row, paired
from .targets import Missing

EPS, ALPHA = 8 / 255, 2 / 255


def operator_rows() -> Iterator[Row | Missing]:
    """Targets C4 and C6."""
    for target, op in (("C4", "pgd_step"), ("C6", "class_moments")):
        if "native" not in timed_backends(op):
            yield Missing(target, no_native(op))
    yield from step_rows()
    yield from loss_rows()
    yield from moments_rows()
    yield from cka_rows()
    yield from convolution_rows()


def on(backend: str, run: Callable[[], object]) -> tuple[str, Callable[[], object]]:
    """``run`` on a named backend, with its label."""

    def named() -> object:
        with backends.use_backend(backend):
            return run()

    return f"ro_fast {backend}", named


def timed_backends(op: str) -> list[str]:
    """Backends that are available and built for speed; Triton on a CPU is an interpreter."""
    found = [name for name in ("native", "reference") if backends.why_not(name, op, "cpu") is None]
    for name in ("native", "triton"):
        if name not in found:
            why = "its interpreter on a CPU is for tests" if name == "triton" else backends.why_not(name, op, "cpu")
            print(f"{op}: {name} is not timed: {why}")
    return found


def no_native(op: str) -> str:
    """Why an operator's native backend is not timed."""
    return f"{op} has no native backend here: {backends.why_not('native', op, 'cpu')}"


def inductor(run: Callable[..., object]) -> Callable[..., object]:
    """``torch.compile`` with static shapes and maximum tuning."""
    return torch.compile(run, fullgraph=True, dynamic=False)


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
    # As many bytes as the step moves: three tensors read and one written, compared with two copies of one.
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
        # In place, as in the attack; the rivals' loops can't, or write their perturbation.
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

    for n, classes in ((128, 10), (1024, 10), (4096, 100)):
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


def cka_rows() -> Iterator[Row]:
    a = torch.randn(10_000, 512)
    b = a @ torch.randn(512, 512) / 22 + torch.randn(10_000, 512)
    few = a[:1000].double(), b[:1000].double()  # in float32 the norms of 10⁸ values lose two per cent
    torch.testing.assert_close(linear_cka(*few), baselines.cka_by_gram(*few))
    ours, theirs = ("ro_fast", lambda: linear_cka(a, b)), ("both Gram matrices", lambda: baselines.cka_by_gram(a, b))
    row = paired("linear_cka [10000,512]", ours, theirs, at_least=3)
    yield row
    less = row.rival_mb / row.ours_mb
    name = "linear_cka [10000,512], peak memory (times less)"
    yield dataclasses.replace(row, name=name, ratio=less, ratio_p20=less, ratio_p80=less, target="C6", must=20, goal=100)


def convolution_rows() -> Iterator[Row]:
    """Convolutions of PreActResNet-18 compared with oneDNN's with prepacked weights, as called by Inductor."""
    last = torch.channels_last
    for channels, side in ((64, 32), (512, 4)):
        x = torch.randn(16, channels, side, side).contiguous(memory_format=last)
        weight = (torch.randn(channels, channels, 3, 3) / (3 * channels**0.5)).contiguous(memory_format=last)
        ours, one = winograd_weights(weight), [1, 1]
        packed = mkldnn("reorder_convolution_weight")(weight, one, one, one, 1, list(x.shape))
        theirs = lambda: mkldnn("convolution_pointwise")(x, packed, None, one, one, one, 1, "none", [], "")  # noqa: B023, E731
        torch.testing.assert_close(winograd_conv(x, ours), theirs(), rtol=1e-4, atol=1e-4)
        if backends.why_not("native", "winograd_conv", "cpu") is None:
            run = on("native", lambda: winograd_conv(x, ours))  # noqa: B023
            yield paired(f"winograd_conv [16,{channels},{side},{side}] to {channels}", run, ("oneDNN, packed", theirs), seconds=2)
