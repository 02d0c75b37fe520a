"""Training images that stay in their file: the same images, the same run."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from helpers.runs import small, without_seconds

from ro_fast.config import DataConfig
from ro_fast.data import load_data
from ro_fast.data.stored_images import StoredImages, in_memory, rows_of
from ro_fast.errors import InputError
from ro_fast.training.trainer import train


@pytest.fixture
def file(tmp_path):
    """Uncompressed arrays of 200 images to train on."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (250, 3, 6, 5), np.uint8), np.arange(250) % 4
    np.savez(tmp_path / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    return tmp_path / "data.npz"


def load(file, monkeypatch, stored, **options):
    with monkeypatch.context() as patch:
        if stored:
            patch.setattr("ro_fast.data.stored_images.IN_MEMORY", 1000)
            patch.setattr("ro_fast.data.files.IN_MEMORY", 1000)
        return load_data(DataConfig(name="npz", path=str(file), **options))


def test_they_are_the_images_that_would_be_held(file, monkeypatch):
    held, stored = (load(file, monkeypatch, stored) for stored in (False, True))
    x = stored.x_train
    assert isinstance(x, StoredImages) and isinstance(x.pool, np.memmap) and isinstance(held.x_train, torch.Tensor)
    assert x.shape == held.x_train.shape and x.dtype == held.x_train.dtype and x.dim() == 4
    assert stored.fingerprint() == held.fingerprint() and stored.mean_std() == held.mean_std()
    index = torch.tensor([5, 1, 1, 30])
    assert x[index].equal(held.x_train[index]) and in_memory(x).equal(held.x_train)
    assert torch.cat(list(x.split(7))).equal(held.x_train)
    assert stored.pooled().fingerprint() == held.pooled().fingerprint()


def test_floats_are_read_a_batch_at_a_time_too(tmp_path, monkeypatch):
    x = np.random.default_rng(0).random((4000, 1, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.arange(4000) % 2, x_test=x[:9], y_test=np.arange(9) % 2)
    stored = load(tmp_path / "data.npz", monkeypatch, True).x_train
    tracemalloc.start()
    batch = stored[torch.arange(8)]
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < x.nbytes / 10 and batch.equal(load(tmp_path / "data.npz", monkeypatch, False).x_train[:8])


def test_a_damaged_file_is_refused(file, monkeypatch):
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.npz: x_train is damaged"):
        load(file, monkeypatch, True)


def test_some_of_them_stay_in_the_file_only_if_they_are_many(file, monkeypatch):
    stored = load(file, monkeypatch, True)
    monkeypatch.setattr("ro_fast.data.stored_images.IN_MEMORY", 1000)
    few, many = rows_of(stored.x_train, np.arange(5)), rows_of(stored.x_train, np.arange(100, 2, -1))
    assert isinstance(few, torch.Tensor) and isinstance(many, StoredImages)
    assert many[torch.tensor([0])].equal(stored.x_train[torch.tensor([100])])


@pytest.mark.parametrize("option", [{"bias": "imbalance"}, {"bias": "shift"}, {"bias": "duplicates"}, {"train_share": 0.5}])
def test_what_is_done_to_data_does_the_same(file, monkeypatch, option):
    held, stored = (load(file, monkeypatch, stored, **option) for stored in (False, True))
    assert stored.fingerprint() == held.fingerprint()


def test_batches_are_read_ahead_in_their_order(file, monkeypatch):
    x = load(file, monkeypatch, True).x_train
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(9)
    for batch, index in zip(x.ahead(order), order, strict=True):
        assert batch.equal(x[index])


def test_a_failure_to_read_ends_the_training_that_waits_for_it(file, monkeypatch):
    x = load(file, monkeypatch, True).x_train
    with pytest.raises(IndexError):
        list(x.ahead([torch.tensor([0]), torch.tensor([1000])]))


def test_a_run_is_bit_for_bit_that_of_images_in_memory(file, monkeypatch, tmp_path):
    histories = []
    for stored in (False, True):
        config = small(tmp_path / str(stored), **{"data.name": "npz", "data.path": str(file), "data.train_size": None})
        histories.append(train(config, data=load(file, monkeypatch, stored)))
    assert without_seconds(histories[0]) == without_seconds(histories[1])


def test_work_on_all_images_is_refused_where_they_would_fill_memory(file, monkeypatch):
    x = load(file, monkeypatch, True).x_train
    monkeypatch.setattr("ro_fast.data.stored_images.memory", lambda: 1.9 * x.nbytes)
    with pytest.raises(InputError, match=r"are too many to look at together .* give data.train_size=\d+, or less"):
        in_memory(x)
