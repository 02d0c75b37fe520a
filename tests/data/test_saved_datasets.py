"""Folders that Hugging Face's datasets has written with save_to_disk, made here with pyarrow alone."""

from __future__ import annotations

import io
import json
import sys

import pytest
from PIL import Image

from ro_fast.cli.compose import compose
from ro_fast.config import DataConfig
from ro_fast.data import load_data
from ro_fast.errors import InputError

pytest.importorskip("hydra")

FEATURES = {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def png(value):
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def save(folder, labels, features=FEATURES, images=None):
    pa = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    table = pa.table({"img": images or [png(i) for i in range(len(labels))], next(reversed(features)): labels})
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def load(path):
    return load_data(DataConfig(name="datasets", path=str(path)))


def test_splits_are_read_and_recognised(tmp_path):
    save(tmp_path / "train", [0, 1] * 10)
    save(tmp_path / "validation", [1, 0, 0])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    assert compose("train", [f"data.path={tmp_path}"]).data.name == "datasets"
    data = load(tmp_path)
    assert data.y_test.tolist() == [1, 0, 0] and data.x_test[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.class_names == ("cat", "dog") and (data.x_train[:, 0, 0, 0] % 2 == data.y_train).all()


def test_a_single_part_is_split_and_labels_may_be_text(tmp_path):
    save(tmp_path / "one", ["b", "a"] * 10, {"img": {"_type": "Image"}, "Target": {"_type": "Value", "dtype": "string"}})
    data = load(tmp_path / "one")
    assert data.class_names == ("a", "b") and sorted(data.y_test.tolist()) == [0, 0, 1, 1]


def test_what_is_wrong_is_told(tmp_path):
    with pytest.raises(InputError, match=r"was not written by the save_to_disk"):
        load(tmp_path)
    two = {"img": {"_type": "Image"}, "fine": {"_type": "ClassLabel"}, "coarse": {"_type": "ClassLabel"}}
    save(tmp_path / "two", [0, 1], two)
    with pytest.raises(InputError, match="needs one column of labels: fine and coarse may all be meant"):
        load(tmp_path / "two")
    save(tmp_path / "unlabelled", [0, -1])
    with pytest.raises(InputError, match="row 1: label -1 is none of those to train on: cat, dog"):
        load(tmp_path / "unlabelled")
    save(tmp_path / "lists", [[0], [1]])
    with pytest.raises(InputError, match=r"row 0: label \[0\] is neither a whole number nor text"):
        load(tmp_path / "lists")
    save(tmp_path / "elsewhere", [0, 1], images=[{"bytes": None, "path": "/no/such.png"}] * 2)
    with pytest.raises(InputError, match="row 0 has no image, nor the path of a file"):
        load(tmp_path / "elsewhere")
    (tmp_path / "two" / "dataset_info.json").write_text("[")
    with pytest.raises(InputError, match="does not say which columns there are"):
        load(tmp_path / "two")
    (tmp_path / "unlabelled" / "data-00000-of-00001.arrow").write_bytes(b"junk")
    with pytest.raises(InputError, match="can't be read as a folder of Hugging Face's datasets"):
        load(tmp_path / "unlabelled")


def test_missing_pyarrow_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name, content in (("state.json", {}), ("dataset_info.json", {"features": FEATURES})):
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"needs pyarrow .*: pip install pyarrow"):
        load(tmp_path)
