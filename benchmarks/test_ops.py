"""``pytest benchmarks --benchmark-enable``: each operator on each backend with pytest-benchmark, once found correct."""

from __future__ import annotations

import pytest
import torch

from ro_fast.ops import OPS, backends, winograd_weights
from ro_fast.testing import assert_close, backends_for, samples

X, GRAD = torch.rand(128, 3, 32, 32), torch.randn(128, 3, 32, 32)
CALLS = {
    "pgd_step": (X, X, GRAD, 8 / 255, 2 / 255),
    "pgd_init": (X, 8 / 255, GRAD.clamp(-1, 1)),
    "pgd_mlp": (X[:, 0].flatten(1), torch.arange(128) % 10, [torch.randn(64, 1024) / 32, torch.randn(10, 64) / 8], None, None),
    "weighted_cross_entropy": (torch.randn(128, 10), torch.randint(10, (128,)), torch.rand(128)),
    "weighted_kl": (torch.randn(128, 10), torch.randn(128, 10), torch.rand(128)),
    "boosted_cross_entropy": (torch.randn(128, 10), torch.randint(10, (128,)), torch.rand(128)),
    "margin_loss": (torch.randn(128, 10), torch.randint(10, (128,)), torch.rand(128)),
    "dlr_loss": (torch.randn(128, 10), torch.randint(10, (128,))),
    "affine_relu": (X, torch.rand(3), torch.rand(3)),
    "affine_relu_backward": (GRAD, torch.zeros(GRAD.numel() // 8, dtype=torch.uint8)),
    "class_moments": (torch.randn(1000, 64), torch.randint(10, (1000,)), 10),
    "winograd_conv": (torch.randn(4, 64, 16, 16), winograd_weights(torch.randn(64, 64, 3, 3))),
}
OPTIONS = {"pgd_mlp": {"eps": 8 / 255, "alpha": 2 / 255, "steps": 10}}


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("op", OPS)
def test_speed(benchmark, op: str, backend: str) -> None:  # type: ignore[no-untyped-def]
    if backend == "triton" and not torch.cuda.is_available():
        pytest.skip("Triton's interpreter on a CPU is for tests, not for timing")
    if reason := backends_for(op)[backend]:
        pytest.skip(f"{backend}: {reason}")
    assert op in CALLS, f"give CALLS a call of {op}"
    with backends.use_backend(backend):
        for sample in samples(op):  # no speed for a wrong operator
            with backends.use_backend("reference"):
                reference = sample.run()
            assert_close(sample.run(), reference, sample.truth(), torch.float32, sample)
        benchmark(OPS[op], *CALLS[op], **OPTIONS.get(op, {}))
