"""The operators and attacks on an NVIDIA GPU, on every backend; needs only pytest, so that it runs where little is installed."""

from __future__ import annotations

import pytest
import torch

from ro_fast.attacks import PGD
from ro_fast.config import ModelConfig
from ro_fast.models import build_model
from ro_fast.ops import OPS, backends, pgd_step
from ro_fast.testing import DIFFERENTIABLE, LAYOUTS, Sample, assert_close, outputs, samples

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@pytest.fixture(params=backends.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def there(op: str, backend: str) -> None:
    if reason := backends.why_not(backend, op, "cuda"):
        pytest.skip(f"{backend}: {reason}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_as_close_to_float64_as_the_reference_each_time(op: str, dtype: torch.dtype, layout: str, backend: str) -> None:
    there(op, backend)
    for sample in samples(op, dtype, "cuda", layout):
        with backends.use_backend("reference"):
            reference = sample.run()
        with backends.use_backend(backend):
            ours, again = sample.run(), sample.run()
        assert_close(ours, reference, sample.truth(), dtype, sample)
        assert all(torch.equal(a, b) or a.isnan().any() for a, b in zip(outputs(ours), outputs(again), strict=True))


@pytest.mark.parametrize("op", OPS)
def test_sanitized_in_one_dtype(op: str, backend: str) -> None:
    there(op, backend)
    with backends.use_backend(backend):
        for sample in samples(op, torch.float32, "cuda"):
            sample.run()
    torch.cuda.synchronize()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradient_as_close_to_float64_as_the_reference(op: str, dtype: torch.dtype, backend: str) -> None:
    there(f"{op}_backward", backend)

    def gradient(sample: Sample, name: str) -> torch.Tensor:
        logits, *rest = sample.args
        logits = logits.detach().requires_grad_()
        with backends.use_backend(name):
            loss = Sample(sample.op, sample.name, (logits, *rest), sample.kwargs).run()
            loss.backward(torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype, device="cuda").view(loss.shape))
        assert logits.grad is not None
        return logits.grad

    for sample in samples(op, dtype, "cuda"):
        truth = gradient(sample.map(lambda t: t.double()), "reference")
        assert_close(gradient(sample, backend), gradient(sample, "reference"), truth, dtype, f"gradient of {sample}")


@pytest.mark.parametrize("op", OPS)
def test_can_be_captured_and_waits_for_nothing(op: str, backend: str) -> None:
    there(op, backend)
    if backend == "reference":
        pytest.skip("torch's own operators decide for themselves what they wait for")
    sample = samples(op, torch.float32, "cuda")[1]
    with backends.use_backend(backend):
        expected = outputs(sample.run())
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            sample.run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = outputs(sample.run())
        graph.replay()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


def test_more_than_two_to_the_31_values(backend: str) -> None:
    there("pgd_step", backend)
    free, _ = torch.cuda.mem_get_info()
    if backend == "reference" or free < 24 * 2**30:
        pytest.skip("needs 24 GiB and a kernel of our own")
    x = torch.zeros(2**19 + 1, 64, 8, 8, dtype=torch.bfloat16, device="cuda")
    grad = torch.ones_like(x)
    with backends.use_backend(backend):
        pgd_step(x, x.clone(), grad, 0.5, 0.25, out=x)
        assert x[0].eq(0.25).all() and x[-1].eq(0.25).all()


@pytest.mark.parametrize("engine", ["eager", "mlp", "fused", "captured"])
@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet18", "mlp"])
def test_attacks_take_the_steps_that_they_take_on_a_cpu(name: str, engine: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=name, width=8), (3, 8, 8), 5, [0.4] * 3, [0.2] * 3).double().eval()
    x, y, noise = torch.rand(4, 3, 8, 8).double(), torch.arange(4), 2 * torch.rand(4, 3, 8, 8).double() - 1
    expected = PGD(0.1, 0.03, 5, engine="eager")(model, x, y, noise=noise)
    attack = PGD(0.1, 0.03, 5, engine=engine)
    if f"{engine}: available" not in attack.explain(model.cuda(), x.cuda()):
        pytest.skip(attack.explain(model, x.cuda()))
    for _ in range(2):
        found = attack(model, x.cuda(), y.cuda(), noise=noise.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-9)
