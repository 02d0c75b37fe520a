"""Training sets made worse on purpose: each kind touches its share of the images, in its own way, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ro_fast.config import DataConfig
from ro_fast.data import ImageData, load_data
from ro_fast.data.bias import DIMMED, KINDS
from ro_fast.errors import InputError

SHARE = 0.25


def load(kind: str, share: float = SHARE, **options: object) -> ImageData:
    return load_data(DataConfig(name="digits", train_size=400, bias=kind, bias_share=share, **options))


def counts(data: ImageData) -> list[int]:
    return torch.bincount(data.y_train, minlength=10).tolist()


PLAIN = load("none")


@pytest.mark.parametrize("kind", KINDS)
def test_only_training_images_are_touched_and_draws_follow_from_the_seed(kind: str) -> None:
    data, again, other = load(kind), load(kind), load(kind, seed=1)
    assert torch.equal(data.x_val, PLAIN.x_val) and torch.equal(data.x_test, PLAIN.x_test)
    assert torch.equal(data.y_test, PLAIN.y_test) and data.fingerprint() == again.fingerprint() != other.fingerprint()
    assert data.fingerprint() != PLAIN.fingerprint()


@pytest.mark.parametrize("kind", ["fewer", "imbalance", "missing_mode"])
def test_what_goes_is_a_share_of_all(kind: str) -> None:
    data = load(kind)
    assert len(data.y_train) == 300
    there = {tuple(x.flatten().tolist()) for x in PLAIN.x_train}
    assert all(tuple(x.flatten().tolist()) in there for x in data.x_train)
    if kind == "imbalance":
        assert sorted(counts(data)) == [20] * 5 + [40] * 5
    else:
        assert counts(data) == [30] * 10


def test_a_missing_mode_is_one_end_of_a_class() -> None:
    left, random = load("missing_mode"), load("fewer")
    spread = {}
    for name, data in (("all", PLAIN), ("missing_mode", left), ("fewer", random)):
        x = [data.images(data.x_train[data.y_train == label]).flatten(1).double() for label in range(10)]
        spread[name] = sum(float(torch.linalg.svdvals(own - own.mean(0))[0] ** 2 / len(own)) for own in x)
    assert spread["missing_mode"] < 0.85 * min(spread["all"], spread["fewer"])


def test_duplicates_take_the_place_of_images_of_their_class() -> None:
    data = load("duplicates")
    assert counts(data) == counts(PLAIN)
    assert len(torch.unique(data.x_train.flatten(1), dim=0)) == 300


def test_a_shift_dims_a_share_of_each_class() -> None:
    data = load("shift")
    changed = (data.x_train != PLAIN.x_train).flatten(1).any(1)
    assert torch.bincount(PLAIN.y_train[changed], minlength=10).tolist() == [10] * 10
    assert torch.equal(data.x_train[changed].double(), (PLAIN.x_train[changed].double() * DIMMED).round())


def test_wrong_labels_are_wrong_and_known() -> None:
    data = load("wrong_labels")
    wrong = data.y_train != PLAIN.y_train
    assert int(wrong.sum()) == 100 and data.redrawn is not None and torch.equal(data.redrawn, wrong)
    noisy = load("wrong_labels", label_noise=0.2)
    assert noisy.redrawn is not None and 100 < int(noisy.redrawn.sum()) < 180


def test_floats_keep_their_type_and_vectors_have_modes_too(tmp_path) -> None:
    x, y = np.random.default_rng(0).random((120, 6), dtype=np.float32), np.arange(120) % 3
    np.savez(tmp_path / "v.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    for kind in KINDS:
        data = load_data(DataConfig(name="npz", path=str(tmp_path / "v.npz"), val_size=20, bias=kind))
        assert data.x_train.dtype == torch.float32 and len(data.y_train) in (80, 100)


@pytest.mark.parametrize(
    ("kind", "share", "told"),
    [
        ("imbalanced", 0.2, "data.bias 'imbalanced' is unknown; there are: none, fewer, imbalance"),
        ("fewer", 0.0, "data.bias_share is 0.0; it is a share"),
        ("fewer", 1.0, "data.bias_share is 1.0; it is a share"),
        ("imbalance", 0.5, "data.bias=imbalance with data.bias_share=0.5 leaves class . without a training image"),
    ],
)
def test_bad_input_is_told(kind: str, share: float, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load(kind, share)
