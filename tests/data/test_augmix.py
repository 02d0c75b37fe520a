"""AugMix in batches: what it mixes, its range, and its randomness."""

from __future__ import annotations

import pytest
import torch

from ro_fast.errors import InputError

pytest.importorskip("kornia")
from ro_fast.data import augmix as module
from ro_fast.data.augmix import augmix


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images_and_follow_the_generator(channels: int) -> None:
    x = torch.rand(40, channels, 12, 12, generator=seeded(0))
    a, b, c = augmix(x, seeded(1)), augmix(x, seeded(1)), augmix(x, seeded(2))
    assert a.shape == x.shape and a.dtype == x.dtype and a.min() >= 0 and a.max() <= 1
    assert torch.equal(a, b) and not torch.equal(a, c)
    changed = (a - x).abs().flatten(1).amax(1) > 1e-3
    assert changed.float().mean() > 0.8  # a weight m near 0 leaves few unchanged
    assert augmix(x[:0], seeded(1)).shape == x[:0].shape


def test_mixture_is_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one operation that turns every image white, the result is (1 − m)·x + m·1, m uniform, and the weights sum to 1."""
    monkeypatch.setattr(module, "_operations", lambda: [lambda image, strength: torch.ones_like(image)])
    mixed = augmix(torch.zeros(2000, 1, 2, 2), seeded(0)).double()
    m = mixed.amax((1, 2, 3))
    torch.testing.assert_close(mixed, m.view(-1, 1, 1, 1).expand_as(mixed))
    assert abs(m.mean() - 0.5) < 0.03 and abs(m.var() - 1 / 12) < 0.01


def test_severity_is_strength() -> None:
    x = torch.rand(200, 1, 12, 12, generator=seeded(0))
    mild, strong = ((augmix(x, seeded(1), severity=s) - x).abs().mean() for s in (1, 10))
    assert strong > 1.2 * mild


def test_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="are not images"):
        augmix(torch.rand(4, 10))
