"""The validation split: as many images of every class, or a share of each where classes are rare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ro_fast.config import DataConfig
from ro_fast.data import balanced_subset, load_data
from ro_fast.data.subsets import stream, validation_subset
from ro_fast.errors import InputError


def of_classes(folder, *counts):
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(0).integers(256, size=(len(y), 1, 2, 2), dtype=np.uint8)
    np.savez(folder / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return DataConfig(name="npz", path=str(folder / "own.npz"))


def test_a_rare_class_is_trained_on_and_validated_with(tmp_path, caplog):
    data = load_data(of_classes(tmp_path, 500, 30))
    assert torch.bincount(data.y_train).tolist() == [417, 25]
    assert torch.bincount(data.y_val).tolist() == [83, 5]
    assert "class 1 (30 images); each class gives its share instead, 5 of that one" in caplog.text


def test_a_class_of_one_image_is_told(tmp_path):
    with pytest.raises(InputError, match="class 2 has a single training image"):
        load_data(of_classes(tmp_path, 20, 20, 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=2, max_size=6), st.floats(0, 1), st.integers(0, 9))
def test_every_class_keeps_training_images(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = 1 + round(share * (len(labels) - len(counts) - 1))
    val, even = validation_subset(labels, size, np.random.default_rng(seed))
    taken = np.bincount(labels[val], minlength=len(counts))
    assert len(np.unique(val)) == size and (taken < counts).all()
    if not even and size >= len(counts):
        assert taken.min() > 0


@pytest.mark.parametrize("size", [1, 200, 1000])
def test_classes_of_one_size_are_split_as_ever(size):
    labels = np.random.default_rng(1).permutation(np.arange(1200) % 10)
    val, even = validation_subset(labels, size, stream(3, "validation"))
    assert even and np.array_equal(val, balanced_subset(labels, size, stream(3, "validation")))
