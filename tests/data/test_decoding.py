"""Many image files are decoded once; later readings find the same images, notice changes, and go on where one was killed."""

from __future__ import annotations

import errno
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ro_fast.config import DataConfig
from ro_fast.data import decoding, load_data
from ro_fast.errors import InputError, StorageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty files of two classes, which are many here."""
    monkeypatch.setattr(decoding, "MANY", 10)
    monkeypatch.setattr(decoding, "_BLOCK", 4)
    monkeypatch.setattr(decoding, "_PART", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(40):
        place = tmp_path / "files" / ("train" if i < 30 else "test") / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 5), (i, 100, 200)).save(place / f"{i:02d}.png")
    return tmp_path / "files"


def load(folder, **options):
    return load_data(DataConfig(name="folder", path=str(folder), **options))


def read(monkeypatch, after=None):
    """Counts the files that are decoded from now on, and ends the process, as it were, after some."""
    files = []

    def counted(file):
        if after is not None and len(files) >= after:
            raise KeyboardInterrupt
        files.append(file)
        return real(file)

    real = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", counted)
    return files


def kill_after(files, folder, monkeypatch):
    with monkeypatch.context() as patch:
        read(patch, after=files)
        with pytest.raises(KeyboardInterrupt):
            load(folder)


def same(a, b):
    return a.fingerprint() == b.fingerprint() and a.files_train == b.files_train and a.files_test == b.files_test


def test_images_are_those_of_a_direct_reading_and_decoded_once(folder, monkeypatch):
    first = load(folder)
    decoded = read(monkeypatch)
    again = load(folder)
    assert len(decoded) == 1  # to see how large they are
    monkeypatch.setattr(decoding, "MANY", 1000)
    direct = load(folder)
    assert len(decoded) == 42
    assert same(first, direct) and same(again, direct)


def test_a_reading_that_was_killed_goes_on(folder, monkeypatch):
    monkeypatch.setattr(decoding, "_SAVED", 0.0)
    kill_after(25, folder, monkeypatch)
    with monkeypatch.context() as patch:
        decoded = read(patch)
        continued = load(folder)
    assert 15 <= len(decoded) <= 20  # but for those of the last block
    monkeypatch.setattr(decoding, "MANY", 1000)
    assert same(continued, load(folder))


def test_bytes_written_after_the_last_state_do_not_count(folder, monkeypatch):
    monkeypatch.setattr(decoding, "_SAVED", 0.0)
    kill_after(25, folder, monkeypatch)
    (images,) = (folder.parent / "cache").rglob("*.uint8")
    with open(images, "ab") as file:
        file.write(b"half an image")
    continued = load(folder)
    monkeypatch.setattr(decoding, "MANY", 1000)
    assert same(continued, load(folder))


def test_a_changed_file_is_seen_and_the_older_images_are_deleted(folder):
    before = load(folder)
    Image.new("RGB", (4, 5), (0, 0, 0)).save(folder / "test" / "a" / "30.png")
    after = load(folder)
    assert after.x_test[0].max() == 0 and before.x_test[0].max() == 200
    assert len(list((folder.parent / "cache").rglob("*.uint8"))) == 1


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(folder):
    load(folder)
    place, other = folder / "test" / "a" / "30.png", folder.parent / "other.png"
    Image.new("RGB", (4, 5), (31, 100, 200)).save(other)
    stat = place.stat()
    assert other.stat().st_size == stat.st_size
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(place)
    assert load(folder).x_test[0, 0].unique().tolist() == [31]


def test_a_folder_under_another_spelling_is_the_same(folder, monkeypatch):
    first = load(folder)
    decoded = read(monkeypatch, after=1)  # which tells how large they are
    monkeypatch.chdir(folder)
    assert same(first, load("."))
    assert len(decoded) == 1 and first.files_train[0].startswith("train/a/")


def test_a_file_that_could_not_be_read_then_is_tried_again(folder, monkeypatch):
    def failing(file):
        if "03.png" in str(file):
            raise decoding.Unreadable("cannot allocate memory")
        return real(file)

    real = decoding.read_image
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_image", failing)
        with pytest.raises(InputError, match=r"03\.png is not an image that can be read \(cannot allocate memory\)"):
            load(folder)
    assert load(folder).skipped == ()


def test_warnings_of_others_are_not_lost(folder):
    before = warnings.filters[:]
    load(folder)
    assert warnings.filters == before


@pytest.mark.parametrize("kind", ["uint8", "json"])
@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: bytes([content[0] ^ 1]) + content[1:]])
def test_what_was_damaged_is_read_anew(folder, caplog, kind, damage):
    before = load(folder)
    (file,) = (folder.parent / "cache").rglob(f"*.{kind}")
    file.write_bytes(damage(file.read_bytes()))
    assert same(before, load(folder)) and "is damaged: the files are read again" in caplog.text
    caplog.clear()
    assert same(before, load(folder)) and "damaged" not in caplog.text


def test_unreadable_files_and_other_sizes_are_named_as_in_a_direct_reading(folder, monkeypatch):
    (folder / "train" / "b" / "03.png").write_text("no image")
    with pytest.raises(InputError, match=r"03\.png is not an image .* data.skip_bad=true"):
        load(folder)
    skipped = load(folder, skip_bad=True)
    assert skipped.skipped == ("train/b/03.png",)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "MANY", 1000)
        assert same(skipped, load(folder, skip_bad=True))
    Image.new("RGB", (5, 5)).save(folder / "train" / "b" / "03.png")
    with pytest.raises(InputError, match=r"00\.png is 3x5x4 but .*03\.png is 3x5x5 .* 19 of the first 20 images are 3x5x4"):
        load(folder)


def test_a_full_disk_is_one_sentence_and_the_next_reading_goes_on(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(decoding.os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device.*set XDG_CACHE_HOME to a folder with room"):
            load(folder)
    assert len(load(folder).y_test) == 10


def test_more_than_a_gibibyte_of_images_stays_in_the_file(folder, monkeypatch):
    held = load(folder)
    monkeypatch.setattr("ro_fast.data.stored_images.IN_MEMORY", 100)
    stored = load(folder)
    assert not isinstance(stored.x_train, torch.Tensor) and isinstance(stored.x_train.pool, np.memmap)
    assert same(held, stored)
