"""What tests and benchmarks of the operators share: sample inputs, tolerances, the comparison with float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ro_fast import backends
from ro_fast.ops import OPS, ClassMoments

LAYOUTS = ("contiguous", "channels_last", "strided")
# What a correct kernel may lose beyond the reference, as a share of the largest value: a few roundings of the dtype.
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 8e-3, torch.float64: 1e-13}


@dataclass(frozen=True)
class Sample:
    """One call of a public operator."""

    op: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}({self.name})"

    def run(self, op: Callable[..., Any] | None = None) -> Any:
        """Calls the operator, or another function of the same arguments."""
        return (op or OPS[self.op])(*self.args, **self.kwargs)

    def map(self, f: Callable[[Tensor], Tensor]) -> Sample:
        """The call with ``f`` applied to each tensor of floating point numbers."""

        def of(value: Any) -> Any:
            return f(value) if isinstance(value, Tensor) and value.is_floating_point() else value

        return replace(
            self, args=tuple(of(v) for v in self.args), kwargs={name: of(v) for name, v in self.kwargs.items()}
        )

    def truth(self) -> tuple[Tensor, ...]:
        """The reference's outputs in float64 from the same, already rounded, inputs."""
        with backends.use_backend("reference"):
            return outputs(self.map(lambda t: t.double()).run())


def samples(
    op_name: str, dtype: torch.dtype = torch.float32, device: str = "cpu", layout: str = "contiguous"
) -> list[Sample]:
    """Small inputs of an operator that between them reach each of its branches.

    Args:
        op_name: one of ``ro_fast.ops.OPS``.
        dtype: of images, logits or features.
        device: where they lie.
        layout: one of LAYOUTS; channels_last touches four-dimensional tensors only.
    """
    return [_lay_out(s, layout) for s in _CASES[op_name](_Draw(dtype, device))]


def outputs(result: Any) -> tuple[Tensor, ...]:
    """The tensors an operator returned, as a tuple."""
    if isinstance(result, ClassMoments):
        result = (result.count, result.mean) + (() if result.scatter is None else (result.scatter,))
    return result if isinstance(result, tuple) else (result,)


def assert_close(ours: Any, reference: Any, truth: Any, dtype: torch.dtype, what: object = "result") -> None:
    """Raises AssertionError unless ``|truth − ours| ≤ |truth − reference| + tol`` in each element.

    Args:
        ours, reference: outputs computed from inputs of ``dtype``; where the reference is not finite both are equal.
        truth: the float64 output.
        dtype: whose line of TOLERANCE holds, as a share of the largest finite true value.
        what: named in the message.
    """
    for ours_, reference_, truth_ in zip(outputs(ours), outputs(reference), outputs(truth), strict=True):
        assert ours_.shape == reference_.shape, f"{what}: shape {list(ours_.shape)}, not {list(reference_.shape)}"
        assert ours_.dtype == reference_.dtype, f"{what}: {ours_.dtype}, not {reference_.dtype}"
        a, b, t = (v.detach().double() for v in (ours_, reference_, truth_))
        finite = b.isfinite() & t.isfinite()
        same = (a == b) | (a.isnan() & b.isnan())
        scale = t[finite].abs().max().item() if finite.any() else 0.0
        excess = torch.where(finite, (t - a).abs() - (t - b).abs() - TOLERANCE[dtype] * scale, 0.0)
        wrong = torch.where(finite, ~(excess <= 0), ~same)
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            raise AssertionError(
                f"{what}: {int(wrong.sum())} of {wrong.numel()} values are off; at {list(at)} it is {a[at].item():.9g}, "
                f"the reference {b[at].item():.9g}, in float64 {t[at].item():.9g}"
            )


def backends_for(op_name: str, device: str = "cpu") -> dict[str, str | None]:
    """Each backend's name with None where it can run the operator on the device, else the reason why not."""
    return {name: backends.why_not(name, op_name, torch.device(device).type) for name in backends.BACKENDS}


class _Draw:
    """Random tensors of one dtype on one device, the same ones each time."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, device
        self._generator = torch.Generator().manual_seed(0)

    def uniform(self, *shape: int, lo: float = 0.0, hi: float = 1.0) -> Tensor:
        values = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        return (lo + (hi - lo) * values).to(self.device, self.dtype)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64).to(self.device, self.dtype)

    def labels(self, n: int, num_classes: int) -> Tensor:
        return torch.randint(num_classes, (n,), generator=self._generator).to(self.device)

    def mask(self, n: int) -> Tensor:
        return torch.arange(n, device=self.device) % 2 == 0


def _lay_out(sample: Sample, layout: str) -> Sample:
    def strided(t: Tensor) -> Tensor:
        wide = t.new_zeros(*t.shape, 2)
        wide[..., 0] = t
        return wide[..., 0]

    def channels_last(t: Tensor) -> Tensor:
        return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t

    if layout == "contiguous":
        return sample
    return sample.map({"channels_last": channels_last, "strided": strided}[layout])


def _hostile(draw: _Draw, *shape: int) -> Tensor:
    """A gradient whose samples are zero, tiny, huge, or hold NaN or an infinity, the last an ordinary one."""
    g = draw.normal(*shape)
    g[0] = 0
    g[1] *= 1e-30
    g[2] *= 1e30
    g[3].view(-1)[0] = math.nan
    g[4].view(-1)[-1] = math.inf
    return g


_SHAPES = ((3, 3, 5, 7), (1, 1, 1, 1), (0, 3, 4, 4), (5, 17), (4,), (2, 3, 19, 23))


def _pgd_step(draw: _Draw) -> Iterator[Sample]:
    def call(name: str, shape: tuple[int, ...], grad: Tensor | None = None, **kwargs: Any) -> Sample:
        x = draw.uniform(*shape)
        x_adv = (x + 0.1 * draw.uniform(*shape, lo=-1.0)).clamp(0, 1)
        grad = draw.normal(*shape) if grad is None else grad
        return Sample("pgd_step", name, (x_adv, x, grad), {"eps": 0.1, "alpha": 0.03, **kwargs})

    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        for shape in _SHAPES:
            yield call(f"{norm}, {list(shape)}", shape, norm=norm, eps=eps)
        per_sample = {"eps": draw.uniform(6, hi=eps), "alpha": draw.uniform(6, hi=eps)}
        yield call(f"{norm}, eps [N], alpha [N]", (6, 2, 3, 3), norm=norm, **per_sample)
        yield call(f"{norm}, active", (6, 2, 3, 3), norm=norm, active=draw.mask(6))
        yield call(f"{norm}, hostile grad", (6, 2, 3, 3), _hostile(draw, 6, 2, 3, 3), norm=norm)
        yield call(f"{norm}, eps 0, wide range", (2, 1, 3, 3), norm=norm, eps=0.0, lo=-2.5, hi=3.1)


def _pgd_init(draw: _Draw) -> Iterator[Sample]:
    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        for shape in _SHAPES:
            noise = draw.uniform(*shape, lo=-1.0) if norm == "linf" else draw.normal(*shape)
            yield Sample("pgd_init", f"{norm}, {list(shape)}", (draw.uniform(*shape), eps, noise), {"norm": norm})
        shape = (6, 2, 3, 3)
        radius = draw.uniform(6, hi=eps)
        yield Sample("pgd_init", f"{norm}, eps [N]", (draw.uniform(*shape), radius, draw.normal(*shape)), {"norm": norm})
        yield Sample(
            "pgd_init", f"{norm}, hostile noise", (draw.uniform(*shape), eps, _hostile(draw, *shape)), {"norm": norm}
        )


def _weighted_cross_entropy(draw: _Draw) -> Iterator[Sample]:
    def call(name: str, logits: Tensor, target: Tensor, weight: Tensor | None = None, **kwargs: Any) -> Sample:
        return Sample("weighted_cross_entropy", name, (logits, target, weight), kwargs)

    for reduction in ("none", "sum", "mean", "weighted_mean"):
        z, y, w = 3 * draw.normal(5, 10), draw.labels(5, 10), draw.uniform(5)
        w[2] = 0
        soft = draw.uniform(5, 10)
        yield call(f"{reduction}", z, y, reduction=reduction)
        yield call(f"{reduction}, weight", z, y, w, reduction=reduction)
        yield call(f"{reduction}, weight, smoothing", z, y, w, reduction=reduction, label_smoothing=0.1)
        yield call(f"{reduction}, soft, weight, smoothing", z, soft, w, reduction=reduction, label_smoothing=0.3)
        yield call(f"{reduction}, no weight left", z, y, w * 0, reduction=reduction)
        yield call(f"{reduction}, empty", z[:0], y[:0], w[:0], reduction=reduction)
        impossible = z.clone()
        impossible[2, y[2]] = -math.inf
        yield call(f"{reduction}, infinite loss of weight 0", impossible, y, w, reduction=reduction)
    yield call("one sample, one class", draw.normal(1, 1), draw.labels(1, 1))
    yield call("many classes", draw.normal(3, 1030), draw.labels(3, 1030), draw.uniform(3), label_smoothing=0.1)
    yield call("many soft classes", draw.normal(2, 1030), draw.uniform(2, 1030), reduction="sum")
    yield call("large", 1e4 * draw.normal(7, 3), draw.labels(7, 3), reduction="none")
    masked = draw.normal(3, 4)
    masked[:, 3] = -math.inf
    yield call("a class ruled out", masked, draw.labels(3, 3))
    broken = draw.normal(3, 4)
    broken[0, 1], broken[1, 2] = math.nan, math.inf
    yield call("NaN and inf", broken, draw.labels(3, 3), reduction="none")


def _class_moments(draw: _Draw) -> Iterator[Sample]:
    for n, d, c in ((17, 5, 4), (40, 19, 3), (1, 1, 1), (0, 3, 2), (4, 67, 9)):
        for covariance in (False, True):
            name = f"N {n}, D {d}, C {c}" + (", covariance" if covariance else "")
            yield Sample("class_moments", name, (draw.normal(n, d), draw.labels(n, c), c), {"covariance": covariance})
    yield Sample("class_moments", "far from 0", (1e3 + draw.normal(33, 4), draw.labels(33, 2), 2), {"covariance": True})


_CASES: dict[str, Callable[[_Draw], Iterator[Sample]]] = {
    "pgd_step": _pgd_step,
    "pgd_init": _pgd_init,
    "weighted_cross_entropy": _weighted_cross_entropy,
    "class_moments": _class_moments,
}
