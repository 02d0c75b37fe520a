"""data.path= without data=: what lies there tells which data are meant, or it is refused."""

from __future__ import annotations

import pytest
from PIL import Image

from ro_fast.cli.compose import compose, composed
from ro_fast.data import load_data
from ro_fast.errors import InputError

pytest.importorskip("hydra")


def place(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"")


@pytest.mark.parametrize(
    ("files", "path", "name"),
    [
        (["own.npz"], "own.npz", "npz"),
        (["labels.CSV"], "labels.CSV", "csv"),
        (["train/a/1.png"], "", "folder"),
        (["Training/a/deep/1.jfif", "test/a/2.jfif"], "", "folder"),
        (["a/1.png", "b/1.tif"], "", "folder"),
        (["cifar-10-batches-py/data_batch_1"], "", "cifar10"),
        (["data_batch_1", "test_batch", "batches.meta"], "", "cifar10"),
        (["cifar-10-python.tar.gz"], "cifar-10-python.tar.gz", "cifar10"),
        (["train", "test", "meta"], "", "cifar100"),
        (["cifar-100-python.tar.gz"], "", "cifar100"),
        (["train_32x32.mat", "test_32x32.mat"], "", "svhn"),
        (["MNIST/raw/train-images-idx3-ubyte"], "", "mnist"),
        (["FashionMNIST/raw/train-images-idx3-ubyte.gz"], "", "fashion_mnist"),
        (["my-fashion/train-images-idx3-ubyte.gz"], "my-fashion", "fashion_mnist"),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_the_source_is_told_by_what_lies_there(tmp_path, caplog, command, files, path, name):
    place(tmp_path, *files)
    config = compose(command, [f"data.path={tmp_path / path}"])
    assert config.data.name == name and config.data.path == str(tmp_path / path)
    assert f"is read as data={name} (" in caplog.text


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["notes.txt"], "is none of class folders of images, an .npz or .csv file.*name it with data=NAME"),
        (["a.npz", "readme.md"], r"it holds a.npz: give data.path=.*a.npz"),
        (["1.png", "2.png"], "its 2 images are in no folder of a class"),
        (["train-images-idx3-ubyte"], r"may be meant as data=mnist .*, data=fashion_mnist .*; add one of them"),
        (["MNIST/raw/", "cifar-10-batches-py/"], "may be meant as data=cifar10 .*, data=mnist"),
    ],
)
def test_what_is_unclear_is_refused_with_what_is_possible(tmp_path, files, told):
    place(tmp_path, *files)
    with pytest.raises(InputError, match=told):
        compose("ablate", [f"data.path={tmp_path}"])


@pytest.mark.parametrize("data", [["data=npz"], []])
def test_a_finished_model_is_evaluated_on_own_data(tmp_path, data):
    place(tmp_path, "own.npz")
    config = compose("evaluate", ["checkpoint=run", *data, f"data.path={tmp_path / 'own.npz'}", "data.test_size=10"])
    assert (config.data.name, config.data.path) == ("npz", str(tmp_path / "own.npz"))


def test_flags_may_stand_before_the_path(tmp_path, capsys):
    place(tmp_path, "own.npz")
    composed("train", ["--cfg", "job", f"data.path={tmp_path / 'own.npz'}"])
    assert "name: npz" in capsys.readouterr().out


def test_nothing_there_is_refused(tmp_path):
    for path in (tmp_path / "nowhere", "", "x" * 300):
        with pytest.raises(InputError, match="does not exist, so it doesn't tell which data are meant"):
            compose("prototype", [f"data.path={path}"])


def test_a_name_that_is_given_stands(tmp_path, caplog):
    place(tmp_path, "own.npz")
    assert compose("train", ["data=folder", f"data.path={tmp_path}"]).data.name == "folder"
    assert compose("train", [f"data.path={tmp_path}", "data.name=folder"]).data.name == "folder"
    assert compose("train", ["data.path=null"]).data.name == "digits_noisy"
    assert not caplog.text
    load_data(compose("train", ["data=digits", f"data.path={tmp_path}"]).data)
    assert "data=digits comes with the package" in caplog.text


def test_quotes_and_any_letters_are_taken(tmp_path):
    place(tmp_path, "写真 (1), a=b/own.npz")
    path = tmp_path / "写真 (1), a=b" / "own.npz"
    assert compose("train", [f"data.path='{path}'"]).data.name == "npz"


def test_an_inferred_folder_is_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("L", (4, 4), i).save(tmp_path / name / f"{i}.png")
    assert load_data(compose("train", [f"data.path={tmp_path}"]).data).class_names == ("a", "b")
