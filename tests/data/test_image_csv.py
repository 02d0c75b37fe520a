"""Images listed in a CSV of paths and labels."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ro_fast.config import DataConfig
from ro_fast.data import load_data
from ro_fast.data.image_csv import list_csv
from ro_fast.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        Image.new("L", (4, 4), i).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


def write(folder, *lines, encoding="utf-8"):
    (folder / "labels.csv").write_text("\n".join(lines), encoding=encoding)
    return folder / "labels.csv"


def load(path, **options):
    return load_data(DataConfig(name="csv", path=str(path), **options))


def test_parts_and_labels_are_those_of_the_rows(folder):
    splits = ["train"] * 12 + ["test"] * 4 + ["val"] * 4
    rows = (f"pictures/{i}.png,{'dog' if i % 2 else '猫'},{splits[i]}" for i in range(20))
    data = load(write(folder, "image_path,Label,split", *rows))
    assert data.class_names == ("dog", "猫")
    assert data.x_test[:, 0, 0, 0].tolist() == [12, 13, 14, 15] and data.y_test.tolist() == [1, 0, 1, 0]
    assert sorted([*data.x_train[:, 0, 0, 0].tolist(), *data.x_val[:, 0, 0, 0].tolist()]) == list(range(12))
    assert (data.x_train[:, 0, 0, 0] % 2 == 1 - data.y_train).all()
    assert data.files_test == tuple(f"pictures/{i}.png" for i in range(12, 16))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_numbers_are_sorted_as_numbers_and_test_images_are_split_off(folder, separator, caplog):
    rows = (f"pictures\\{i}.png{separator}{(2, 10)[i % 2]}.0" for i in range(20))
    data = load(write(folder, separator.join(["\ufefffilename", "target"]), *rows))
    assert data.class_names == ("2", "10") and sorted(data.y_test.tolist()) == [0, 0, 1, 1]
    assert (data.x_test[:, 0, 0, 0] % 2 == data.y_test).all()
    assert "4 of 20 are set aside to test with" in caplog.text


GOOD = [f"pictures/{i}.png,{i % 2}" for i in range(20)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["path,label", "no.png,1", *GOOD[:3], "none.png,0"], "line 2: no.png is not a file in .*, nor is that of line 6"),
        (["path,label", "pictures,0"], "line 2: pictures is not a file"),
        (["name,label", *GOOD], "no column of paths; its columns are name, label; name one of them path or file"),
        (GOOD, "no column of paths; its columns are pictures/0.png, 0"),
        (["path,file", *GOOD], "path and file may both be the column of paths"),
        (["path,kind", *GOOD], "no column of labels; its columns are path, kind; name one of them label or class"),
        (["path,label"], "has no row below its header"),
        ([""], "its columns are none"),
        (["path,label", *GOOD, "pictures/1.png,"], "line 22: label is empty"),
        (["path,label", *GOOD, ",1"], "line 22: path is empty"),
        (["path,label", "pictures/1.png,1,2"], "line 2 has 3 cells beside 2 columns"),
        (["path,label,split", "pictures/1.png,1,elsewhere"], "line 2: the split is elsewhere; it must be train, val or test"),
        (["path,label,split", "pictures/1.png,1,test"], "no row's split is train"),
        (["path,label,split", "pictures/1.png,1,train", "pictures/2.png,2,test"], "line 3: class 2 has no image to train on"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder, lines, told):
    with pytest.raises(InputError, match=told):
        load(write(folder, *lines))


def test_other_encodings_and_folders_are_told(folder):
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load(write(folder, "path,label", "pictures/é.png,1", encoding="latin1"))
    with pytest.raises(InputError, match="is not a file"):
        load(folder)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_give_a_list_or_a_sentence(tmp_path_factory, noise, at):
    text = "\n".join(["path,label,split", *(f"{i}.png,{i % 2},train" for i in range(3))]).encode()
    path = tmp_path_factory.getbasetemp() / "noise.csv"
    path.write_bytes(text[:at] + noise + text[at:])
    with pytest.raises(InputError):  # no image is there
        list_csv(path)
