"""Files of arrays whose bytes are wrong, by chance or on purpose: one sentence, and no code is run."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ro_fast.config import DataConfig
from ro_fast.data import load_data
from ro_fast.data.extra import read_extra
from ro_fast.data.files import read_idx, read_npz, read_pickle
from ro_fast.errors import InputError


def npy(header: str, content: bytes = b"\x00" * 8) -> bytes:
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 9999999), }"), "x declares shape"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"), "x declares shape"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }"), "x declares shape"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"), "x declares .*16 bytes, but 8 follow"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "x holds Python objects"),
        (npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }"), "x holds Python objects"),
        (npy("__import__('os').getcwd()"), "not an .npz file of plain arrays"),
        (npy("(" * 100), "not an .npz file of plain arrays"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': 'a', }"), "not an .npz file of plain arrays"),
        (b"\x93NUMPY\x09\x00", "not an .npz file of plain arrays"),
        (b"", "not an .npz file of plain arrays"),
    ],
)
def test_a_hostile_header_is_told(tmp_path, content, told):
    with pytest.raises(InputError, match=told) as error:
        read_npz(archive(tmp_path / "a.npz", x=content), ["x"])
    assert "\n" not in str(error.value)


def test_a_pickle_that_asks_for_more_is_told_in_one_line():
    with pytest.raises(InputError, match="not a pickle of arrays: A load persistent id") as error:
        read_pickle(b"Pa\n.", "batch")
    assert "\n" not in str(error.value)


def test_labels_of_extra_images_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 1, 2, 2), np.uint8), y=np.array([None] * 4))
    with pytest.raises(InputError, match="y holds Python objects"):
        read_extra(str(tmp_path / "a.npz"), (1, 2, 2), 3)


@pytest.mark.parametrize(("y", "told"), [("text", "y_train is <U.*labels must be integers"), ("sparse", "not sparse ones")])
def test_labels_of_a_mat_file_that_are_no_numbers_are_told(tmp_path, y, told):
    from scipy import io as matlab
    from scipy.sparse import csc_array

    labels = csc_array(np.ones((1, 4))) if y == "sparse" else np.array(["a"] * 4)
    for part in ("train", "test"):
        matlab.savemat(tmp_path / f"{part}_32x32.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": labels})
    with pytest.raises(InputError, match=told):
        load_data(DataConfig(name="svhn", path=str(tmp_path)))


def test_a_folder_is_no_npz_file(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_npz(tmp_path, ["x"])


def stored_npz(save) -> bytes:
    file = io.BytesIO()
    y = np.arange(20) % 2
    save(file, x_train=np.zeros((20, 1, 2, 2), np.uint8), y_train=y, x_test=np.zeros((20, 1, 2, 2), np.uint8), y_test=y)
    return file.getvalue()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([np.savez, np.savez_compressed]), st.data())
def test_flipped_bytes_of_an_npz_file_give_data_or_a_sentence(tmp_path_factory, save, data):
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    path.write_bytes(flipped(stored_npz(save), data))
    with contextlib.suppress(InputError):
        load_data(DataConfig(name="npz", path=str(path)))


@settings(max_examples=400, deadline=None)
@given(st.integers(2, 5), st.data())
def test_flipped_bytes_of_a_pickle_give_arrays_or_a_sentence(protocol, data):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"filenames": [b"a.png", b"b.png"]}
    with contextlib.suppress(InputError):
        assert isinstance(read_pickle(flipped(pickle.dumps(batch, protocol), data, 800), "batch"), dict)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_of_an_idx_file_give_an_array_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "flipped-idx"
    path.write_bytes(flipped(struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8), data))
    with contextlib.suppress(InputError):
        assert read_idx(path, 3).size == 8


def test_negative_sizes_of_an_idx_file_are_told(tmp_path):
    (tmp_path / "idx").write_bytes(struct.pack(">4B3i", 0, 0, 8, 3, -2, -2, 2) + bytes(8))
    with pytest.raises(InputError, match="declares shape"):
        read_idx(tmp_path / "idx", 3)


def flipped(content: bytes, data, within: int | None = None) -> bytes:
    changed = bytearray(content)
    for i in data.draw(st.lists(st.integers(0, min(len(content), within or len(content)) - 1), min_size=1, max_size=4)):
        changed[i] ^= data.draw(st.integers(1, 255))
    return bytes(changed)
