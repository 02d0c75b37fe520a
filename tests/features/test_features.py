"""Statistics that compare representations, checked against their Gram form and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ro_fast.features.statistics import LinearCKA, effective_rank, linear_cka


def by_gram(a: Tensor, b: Tensor) -> float:
    centre = np.eye(len(a)) - 1 / len(a)
    k, ell = (centre @ (t @ t.T) @ centre for t in (a.double().numpy(), b.double().numpy()))
    return (k * ell).sum() / (np.linalg.norm(k) * np.linalg.norm(ell))


@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 40), st.integers(0, 2**31))
def test_cka_is_that_of_the_gram_matrices_however_it_is_batched(n: int, d1: int, d2: int, cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (5 + torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (d1, d2))
    expected = by_gram(a, b)
    assert linear_cka(a, b).item() == pytest.approx(expected, abs=1e-9)
    batched = LinearCKA.empty(d1, d2).update(a[:cut], b[:cut]).update(a[cut:], b[cut:])
    assert batched.value.item() == pytest.approx(expected, abs=1e-9)


def test_cka_sees_neither_scale_nor_rotation_and_takes_bfloat16_beside_float32() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3000, 7), torch.randn(3000, 5)
    q, _ = torch.linalg.qr(torch.randn(7, 7))
    assert linear_cka(a, 3 * a @ q + 1).item() == pytest.approx(1, abs=1e-5)
    assert linear_cka(3 * a @ q, b).item() == pytest.approx(linear_cka(a, b).item(), abs=1e-6)
    assert linear_cka(a, b.bfloat16()).item() == pytest.approx(by_gram(a, b.bfloat16()), abs=1e-6)
    assert linear_cka(torch.ones(5, 2), torch.randn(5, 2)).isnan()


def test_effective_rank_counts_directions() -> None:
    spread = torch.stack([torch.eye(4), torch.diag(torch.tensor([7.0, 0, 0, 0])), torch.zeros(4, 4)])
    torch.testing.assert_close(effective_rank(spread), torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    p = np.array([0.5, 0.3, 0.2])
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    found = effective_rank(torch.tensor(9 * q @ np.diag(p) @ q.T))
    assert found.item() == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.2])
    singular = torch.linalg.svdvals(features - features.mean(0))
    p = (singular / singular.sum()).numpy()
    found = effective_rank(torch.cov(features.T), of="singular_values")
    assert found.item() == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\] and \[4, 2\]"):
        linear_cka(torch.rand(3, 2), torch.rand(4, 2))
    with pytest.raises(ValueError, match=r"\[N, 2\] and \[N, 5\]"):
        LinearCKA.empty(2, 5).update(torch.rand(3, 2), torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"\[3, 2\]; \[..., D, D\]"):
        effective_rank(torch.rand(3, 2))
