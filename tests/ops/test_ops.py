"""The operators on every available backend, compared with the reference and with float64."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ro_fast.ops import (
    OPS,
    ClassMoments,
    affine_relu,
    affine_relu_backward,
    backends,
    boosted_cross_entropy,
    class_moments,
    dlr_loss,
    margin_loss,
    pgd_init,
    pgd_mlp,
    pgd_step,
    weighted_cross_entropy,
    weighted_kl,
    winograd_conv,
    winograd_weights,
)
from ro_fast.testing import DIFFERENTIABLE, LAYOUTS, Sample, assert_close, backends_for, outputs, samples

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@pytest.fixture(params=backends.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A backend that is available and has the operator of the test, if the test concerns one."""
    op = request.node.callspec.params.get("op", "pgd_step")
    if reason := backends_for(op)[request.param]:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def there(op: str, backend: str) -> None:
    """Skips where this backend lacks this operator."""
    if reason := backends_for(op)[backend]:
        pytest.skip(f"{backend}: {reason}")


# -- right -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_as_close_to_float64_as_the_reference(op: str, dtype: torch.dtype, layout: str, backend: str) -> None:
    there(op, backend)
    for sample in samples(op, dtype, layout=layout):
        with backends.use_backend("reference"):
            reference = sample.run()
        with backends.use_backend(backend):
            ours = sample.run()
        assert_close(ours, reference, sample.truth(), dtype, sample)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_as_close_to_float64_as_the_reference(dtype: torch.dtype, op: str, backend: str) -> None:
    def gradient(sample: Sample, name: str) -> torch.Tensor:
        logits, *rest = sample.args
        logits = logits.detach().requires_grad_()
        with backends.use_backend(name):
            loss = Sample(sample.op, sample.name, (logits, *rest), sample.kwargs).run()
            loss.backward(torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype).view(loss.shape))
        assert logits.grad is not None
        return logits.grad

    for sample in samples(op, dtype):
        truth = gradient(sample.map(lambda t: t.double()), "reference")
        assert_close(gradient(sample, backend), gradient(sample, "reference"), truth, dtype, f"gradient of {sample}")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean"])
@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck(reduction: str, soft: bool, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(4, dtype=torch.float64, generator=generator)
    target = torch.rand(4, 5, dtype=torch.float64, generator=generator) if soft else torch.tensor([0, 4, 2, 2])

    def loss(logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weighted_cross_entropy(logits, target, weight, label_smoothing=0.2, reduction=reduction)

    with backends.use_backend(backend):
        assert torch.autograd.gradcheck(loss, (logits, weight), nondet_tol=0.0)
        assert torch.autograd.gradcheck(loss, (logits, weight.requires_grad_()), nondet_tol=0.0)


class Recording(TorchDispatchMode):
    """Records which of our operators are called, and with what."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "ro_fast":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str, backend: str) -> None:
    """Schemas, fakes and autograd registrations, called as ``torch.ops.ro_fast`` with the public function's arguments."""
    there(op, backend)
    with Recording() as recording:
        for sample in itertools.islice(samples(op), 0, None, 4):
            result = sample.run()
            if op == "pgd_step":
                sample.args[0].copy_(outputs(result)[0])
                OPS[op](*sample.args, **sample.kwargs, out=torch.empty_like(sample.args[0]))
            if op == "class_moments":
                result.update(*sample.args[:2])
    assert recording.calls
    with backends.use_backend(backend):
        for overload, args in recording.calls:
            if op in DIFFERENTIABLE and overload.name() == f"ro_fast::{op}" and len(args[0]):
                args = (args[0].detach().requires_grad_(), *args[1:])
            torch.library.opcheck(overload, args)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_the_same_digits_whether_or_not_someone_looks(op: str) -> None:
    """Without a mode the kernel is called past the dispatcher."""
    for sample in samples(op):
        found = []
        for looked_at in (False, True):
            logits = sample.args[0].detach().clone().requires_grad_()
            with Recording() if looked_at else contextlib.nullcontext():
                loss = OPS[op](logits, *sample.args[1:], **sample.kwargs)
                found.append((loss.detach(), *torch.autograd.grad(loss.sum(), logits)))
        for direct, dispatched in zip(*found, strict=True):
            assert torch.equal(direct, dispatched) or direct.isnan().any()


def test_agrees_with_torch_cross_entropy(backend: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, y = torch.randn(9, 7, generator=generator), torch.randint(7, (9,), generator=generator)
    for smoothing, reduction in itertools.product((0.0, 0.3), ("none", "sum", "mean")):
        expected = torch.nn.functional.cross_entropy(logits, y, label_smoothing=smoothing, reduction=reduction)
        with backends.use_backend(backend):
            found = weighted_cross_entropy(logits, y, label_smoothing=smoothing, reduction=reduction)
        torch.testing.assert_close(found, expected)


def test_mean_of_nothing_is_nan_as_in_torch(backend: str) -> None:
    with backends.use_backend(backend):
        assert weighted_cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).isnan()


@pytest.mark.parametrize("name", ["reference", "native"])
def test_a_label_out_of_range_is_no_silent_result(name: str) -> None:
    if reason := backends_for("weighted_cross_entropy")[name]:
        pytest.skip(reason)
    with backends.use_backend(name), pytest.raises((RuntimeError, IndexError)):
        weighted_cross_entropy(torch.zeros(3, 4), torch.tensor([0, 4, 1]))


# -- in place, in order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_memory_order_is_kept_and_out_is_written_in_place(order: torch.memory_format, backend: str) -> None:
    x, noise, grad = (torch.rand(3, 2, 4, 5).contiguous(memory_format=order) for _ in range(3))
    with backends.use_backend(backend):
        start = pgd_init(x, 0.1, noise)
        moved = pgd_step(start, x, grad - 0.5, 0.1, 0.05)
        assert start.is_contiguous(memory_format=order)
        assert moved.is_contiguous(memory_format=order)
        for out in (torch.empty_like(x), start, torch.empty(3, 2, 4, 5, 2)[..., 0]):
            where = out.data_ptr()
            again = pgd_step(start, x, grad - 0.5, 0.1, 0.05, out=out)
            assert again is out
            assert again.data_ptr() == where
            assert torch.equal(again, moved) or out is start
            if out is start:
                assert torch.equal(out, moved)
                start = pgd_init(x, 0.1, noise)


@pytest.mark.parametrize("op", OPS)
def test_native_does_not_depend_on_the_number_of_threads(op: str) -> None:
    if reason := backends_for(op)["native"]:
        pytest.skip(reason)
    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.rand(300, 3, 20, 20, generator=generator) for _ in range(2))
    features, labels = x.flatten(1)[:, :65].contiguous(), torch.randint(7, (300,), generator=generator)
    budget = {"eps": 0.1, "alpha": 0.03, "steps": 5}
    calls = {
        "pgd_step": lambda: pgd_step(x, x, noise - 0.5, 0.5, 0.3, norm="l2"),
        "pgd_init": lambda: pgd_init(x, 0.5, noise - 0.5, norm="l2"),
        "pgd_mlp": lambda: pgd_mlp(features, labels, [noise[:9, 0, 0, :13].repeat(1, 5) - 0.5], None, None, **budget),
        "weighted_cross_entropy": lambda: weighted_cross_entropy(features, labels),
        "class_moments": lambda: class_moments(features, labels, 7, covariance=True),
        "weighted_kl": lambda: weighted_kl(features, features.flip(0), features[:, 0]),
        **{f.__name__: functools.partial(f, features, labels) for f in (boosted_cross_entropy, margin_loss, dlr_loss)},
        "affine_relu": lambda: affine_relu(x - 0.5),
        "affine_relu_backward": lambda: affine_relu_backward(x, noise.byte().flatten()[: x.numel() // 8]),
        "winograd_conv": lambda: winograd_conv(x, winograd_weights(noise[:9, :, :3, :3])),
    }
    assert op in calls, f"give this test a call of {op}"
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with backends.use_backend("native"):
                results.append(outputs(calls[op]()))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_compiles_into_one_graph(backend: str) -> None:
    def step(logits_of: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = x.flatten(1) @ logits_of
        loss = weighted_cross_entropy(logits, y, reduction="sum")
        return pgd_step(x, x, x - 0.5, 0.1, 0.05) * loss

    weights, x, y = torch.rand(12, 4), torch.rand(3, 3, 2, 2), torch.tensor([0, 1, 3])
    with backends.use_backend(backend):
        expected = step(weights, x, y)
        found = torch.compile(step, fullgraph=True, backend="aot_eager")(weights, x, y)
    torch.testing.assert_close(found, expected)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.booleans(), st.integers(0, 2**31))
def test_affine_relu_and_its_gradient_are_those_of_batch_norm_and_relu(n: int, c: int, size: int, last: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, grad, add = (torch.randn(n, c, size, size, generator=generator, dtype=torch.float64) for _ in range(3))
    if last:
        x, grad, add = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad, add))
    scale, shift = torch.randn(2, c, generator=generator, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = torch.relu(leaf * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))
    (expected_grad,) = torch.autograd.grad(expected, leaf, grad)
    for name in ("reference", "native"):
        if backends_for("affine_relu")[name]:
            continue
        with backends.use_backend(name):
            y, bits = affine_relu(x, scale, shift)
            torch.testing.assert_close(y, expected)
            torch.testing.assert_close(affine_relu_backward(grad, bits, scale, add=add), expected_grad + add)
            in_place = x.clone()
            assert affine_relu(in_place, scale, shift, out=in_place)[0] is in_place and torch.equal(in_place, y)


@given(
    n=st.integers(1, 3), c=st.integers(1, 20), o=st.integers(1, 20), height=st.integers(1, 9), width=st.integers(1, 9),
    relu=st.booleans(), transposed=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_winograd_is_the_convolution(
    n: int, c: int, o: int, height: int, width: int, relu: bool, transposed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(o, c, 3, 3, generator=generator).double(), torch.randn(c if transposed else o).double()
    x = torch.randn(n, o if transposed else c, height, width, generator=generator).double()
    conv = torch.conv_transpose2d if transposed else torch.conv2d
    expected = conv(x, weight, bias, padding=1)
    found = winograd_conv(x, winograd_weights(weight), bias, relu=relu, transposed=transposed)
    torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=0, atol=1e-11)


# -- properties --------------------------------------------------------------------------------------------------------

finite = st.floats(-3, 3, width=32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))


@given(shapes, st.floats(0, 1), st.floats(0, 1), st.sampled_from(["linf", "l2"]), st.integers(0, 2**31))
def test_a_step_stays_in_ball_and_range(shape: tuple, eps: float, alpha: float, norm: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, start, grad = (torch.rand(shape, generator=generator) for _ in range(3))
    active = torch.rand(shape[0], generator=generator) < 0.5
    for name in ("reference", "native"):
        if backends_for("pgd_step")[name]:
            continue
        with backends.use_backend(name):
            start = pgd_init(x, eps, 2 * start - 1, norm=norm)
            moved = pgd_step(start, x, grad - 0.5, eps, alpha, norm=norm, active=active)
        for points in (start, moved):
            delta = (points - x).flatten(1)
            size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
            assert (size <= eps + 1e-5).all()
            assert points.min() >= 0
            assert points.max() <= 1
        assert torch.equal(moved[~active], start[~active])


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_weights_of_0_and_1_choose_a_subset(n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, y = torch.randn(n, classes, generator=generator), torch.randint(classes, (n,), generator=generator)
    keep = torch.rand(n, generator=generator) < 0.5
    loss = weighted_cross_entropy(logits, y, keep.float(), reduction="weighted_mean")
    expected = torch.nn.functional.cross_entropy(logits[keep], y[keep]) if keep.any() else torch.zeros(())
    torch.testing.assert_close(loss, expected)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_moments_of_parts_merge_to_those_of_the_whole(n: int, m: int, d: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(n + m, d, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (n + m,), generator=generator)
    whole = class_moments(f, y, classes, covariance=True)
    for name in ("reference", "native"):
        if backends_for("class_moments")[name]:
            continue
        with backends.use_backend(name):
            first, second = (class_moments(f[part], y[part], classes, covariance=True) for part in (slice(n), slice(n, None)))
            merged = first.merge(second)
            updated = ClassMoments.empty(classes, d, covariance=True).update(f[:n], y[:n]).update(f[n:], y[n:])
        for moments in (merged, updated):
            assert torch.equal(whole.count, moments.count)
            torch.testing.assert_close(moments.mean, whole.mean)
            torch.testing.assert_close(moments.scatter, whole.scatter)
            assert name != "native" or torch.equal(moments.scatter, moments.scatter.mT)
    assert torch.equal(whole.scatter, whole.scatter.mT)
    assert (torch.linalg.eigvalsh(whole.scatter) >= -1e-9).all()


# -- what doesn't fit --------------------------------------------------------------------------------------------------

X, Z, Y, M = torch.rand(2, 3), torch.zeros(2, 4), torch.tensor([0, 1]), torch.ones(1)
LONG, TWO_BYTES = torch.rand(8), torch.zeros(2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pgd_step(X, X, X[:, :2], 0.1, 0.1), r"grad has shape \[2, 2\], x_adv has \[2, 3\]"),
        (lambda: pgd_step(X, X.double(), X, 0.1, 0.1), r"x is torch.float64, x_adv is torch.float32"),
        (lambda: pgd_step(X.int(), X, X, 0.1, 0.1), "int32"),
        (lambda: pgd_step(X, X, X, 8, 0.1), r"eps = 8 .*8/255 = 0.03137"),
        (lambda: pgd_step(X, X, X, 0.1, 2), r"alpha = 2 .*2/255"),
        (lambda: pgd_step(X, X, X, -0.1, 0.1), "eps = -0.1"),
        (lambda: pgd_step(X, X, X, math.nan, 0.1), "eps = nan"),
        (lambda: pgd_step(X, X, X, torch.rand(3), 0.1), r"eps has shape \[3\]; one value for each of 2"),
        (lambda: pgd_step(X, X, X, 0.1, 0.1, norm="l1"), "'l1'.*linf, l2"),
        (lambda: pgd_step(X, X, X, 0.1, 0.1, lo=1.0, hi=0.0), r"\[1, 0\]"),
        (lambda: pgd_step(X, X, X, 0.1, 0.1, active=torch.ones(2)), "float32; torch.bool"),
        (lambda: pgd_step(X, X, X, 0.1, 0.1, out=torch.empty(3, 2)), r"out has shape \[3, 2\]"),
        (lambda: pgd_init(X, 8, X), "8/255"),
        (lambda: pgd_init(X, 0.1, X[:1]), r"noise has shape \[1, 3\], x has \[2, 3\]"),
        (lambda: weighted_cross_entropy(Z, Y.int()), "int32; torch.int64"),
        (lambda: weighted_cross_entropy(Z, Y[:1]), r"target has shape \[1\]"),
        (lambda: weighted_cross_entropy(Z, torch.rand(2, 3)), r"\[2, 3\]; \[2\] or \[2, 4\]"),
        (lambda: weighted_cross_entropy(Z, torch.rand(2, 4, requires_grad=True)), "detach"),
        (lambda: weighted_cross_entropy(Z, Y, torch.ones(3)), r"weight has shape \[3\]"),
        (lambda: weighted_cross_entropy(Z, Y, reduction="avg"), "'avg'.*weighted_mean"),
        (lambda: weighted_cross_entropy(Z, Y, label_smoothing=1.5), "1.5"),
        (lambda: weighted_cross_entropy(Z[0], Y), r"\[4\]; \[N, C\]"),
        (lambda: affine_relu(X, torch.ones(4)), r"scale has shape \[4\].*3 channels"),
        (lambda: affine_relu(torch.rand(2, 3, 2, 2), out=torch.rand(2, 2, 2, 3).permute(0, 3, 1, 2)), "one memory order"),
        (lambda: affine_relu_backward(X, torch.zeros(2, dtype=torch.uint8)), r"one bit per value"),
        (lambda: pgd_step(X, X, X, 0.1, float("inf"), norm="l2"), "alpha = inf should be finite"),
        (lambda: pgd_step(X, X, X, 0.1, 1e39, norm="l2"), "alpha = 1e.39 should be finite"),
        (lambda: pgd_step(X, X, X, torch.ones(2, dtype=torch.complex64), 0.1), "eps is torch.complex64; real"),
        (lambda: pgd_step(LONG[:6].view(2, 3), X, X, 0.1, 0.1, out=LONG[1:7].view(2, 3)), "part of its memory with x_adv"),
        (lambda: affine_relu_backward(X, torch.zeros(1, dtype=torch.uint8, device="meta")), "bits are on meta"),
        (lambda: weighted_cross_entropy(torch.rand(2, 3), torch.rand(2, 3, device="meta")), "target is on meta, logits on cpu"),
        (lambda: torch.ops.ro_fast.affine_relu_backward(X.clone(), X, TWO_BYTES, None, None), "a bit per value"),
        (lambda: winograd_weights(torch.rand(2, 3, 5, 5)), r"\[2, 3, 5, 5\]; \[O, C, 3, 3\]"),
        (lambda: winograd_conv(torch.rand(2, 3, 4, 4), torch.rand(16, 4, 3)), r"weights \[16, 4, 3\]; .*\[16, C, O\]"),
        (lambda: winograd_conv(torch.rand(2, 3, 4, 4), torch.rand(16, 3, 4), torch.rand(3)), r"bias has shape \[3\]; \[4\]"),
        (lambda: winograd_conv(torch.rand(2, 3, 4, 4), torch.rand(16, 3, 4).double()), "weights has torch.float64 .*float32"),
        (lambda: weighted_kl(Z, Z[:, :2]), r"target_logits has shape \[2, 2\], logits has \[2, 4\]"),
        (lambda: weighted_kl(Z, Z, reduction="avg"), "'avg'.*weighted_mean"),
        (lambda: margin_loss(Z[:, :1], Y), r"\[2, 1\]; \[N, C\] with C ≥ 2"),
        (lambda: dlr_loss(Z[:, :3], Y, Y), r"C ≥ 4"),
        (lambda: boosted_cross_entropy(Z, Y.float()), "float32; torch.int64"),
        (lambda: dlr_loss(Z, Y, torch.zeros(3, dtype=torch.int64)), r"target_class has shape \[3\]"),
        (lambda: class_moments(X, Y.float(), 2), "float32; torch.int64"),
        (lambda: class_moments(X, Y, 0), "num_classes = 0"),
        (lambda: class_moments(X[0], Y, 2), r"\[3\]; \[N, D\]"),
        (lambda: class_moments(X, Y, 2).merge(class_moments(X, Y, 3)), r"\[2, 3\] and \[3, 3\]"),
        (lambda: class_moments(X, Y, 2).update(X[:, :2], Y), "features have 2 values, the means 3"),
        (lambda: class_moments(X, Y, 2).covariance, "covariance=True"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_told(call: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        call()  # type: ignore[operator]


# -- backends ----------------------------------------------------------------------------------------------------------


def test_a_named_backend_that_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backends._resolve.cache_clear()
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    with backends.use_backend("triton"), pytest.raises(ValueError, match=r"'triton' cannot run pgd_step on cpu: .*reference"):
        pgd_step(X, X, X, 0.1, 0.1)
    backends._resolve.cache_clear()
    with pytest.raises(ValueError, match=r"'metal'.*reference, triton, native"):
        backends.use_backend("metal").__enter__()


@pytest.mark.parametrize("shape", [(2**31, 1), (1, 2**31)])
def test_what_triton_can_not_count_is_refused_in_words(shape: tuple[int, int]) -> None:
    if reason := backends_for("pgd_init")["triton"]:
        pytest.skip(reason)
    kernels = pytest.importorskip("ro_fast.kernels")
    x = torch.zeros(1, 1).expand(shape)
    with pytest.raises(ValueError, match=f"pgd_init: .*{2**31}.* (split the batch|another backend)"):
        kernels.pgd_init(x, x, x, 0.5, None, "l2", 0.0, 1.0)


@pytest.mark.parametrize("name", ["reference", "native", "triton"])
def test_a_class_to_go_to_that_is_none_is_no_silent_result(name: str) -> None:
    if reason := backends_for("dlr_loss")[name]:
        pytest.skip(reason)
    with backends.use_backend(name):
        try:
            loss = dlr_loss(torch.rand(2, 5), torch.tensor([0, 1]), torch.tensor([2, 7]), reduction="none")
        except (RuntimeError, IndexError):
            return
    assert loss[0].isfinite() and loss[1].isnan()


def test_use_backend_goes_before_the_environment_and_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RO_FAST_BACKEND", "reference")
    assert backends.running("pgd_step", "cpu") == "reference"
    with backends.use_backend("native"):
        assert backends.running("pgd_step", "cpu") == "native"
    assert backends.running("pgd_step", "cpu") == "reference"
    assert "pgd_step on cpu: reference (named)" in backends.explain("pgd_step", "cpu")
    monkeypatch.setenv("RO_FAST_BACKEND", "fast")
    with pytest.raises(ValueError, match="'fast'"):
        pgd_step(X, X, X, 0.1, 0.1)


def test_bits_may_lie_apart_in_memory() -> None:
    x = torch.randn(4, 6, 5)
    _, bits = affine_relu(x)
    apart = torch.stack([bits, torch.full_like(bits, 255)], 1)[:, 0]
    assert torch.equal(affine_relu_backward(x, apart), affine_relu_backward(x, bits))
