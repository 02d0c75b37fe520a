"""Folders of images as people have them: nested, with other files, without a test folder, with classes that differ."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from ro_fast.config import DataConfig
from ro_fast.data import load_data
from ro_fast.errors import InputError


def load(path, **options):
    return load_data(DataConfig(name="folder", path=str(path), **options))


def fill(folder, *classes, images=4):
    """Images of two classes, whose red value tells the class."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            Image.new("RGB", (4, 4), (100 * label, 10 * i, 0)).save(folder / name / f"{i}.png")


def test_images_in_sub_folders_count_for_their_class(tmp_path, caplog):
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "test", "a", "b")
    fill(tmp_path / "train" / "b", "old", images=2)
    data = load(tmp_path)
    assert len(data.x_train) + len(data.x_val) == 10
    assert "train/b/old/0.png" in (data.files_train or ()) or "train/b/old/1.png" in (data.files_train or ())
    assert "images in sub-folders of a class's folder count for that class: 2 of 18" in caplog.text


def test_what_is_left_out_is_said_in_one_line(tmp_path, caplog):
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / "test", "a", "b")
    for name in ("1.heic", "2.heic", "notes.txt", ".DS_Store", "Thumbs.db"):
        (tmp_path / "train" / "a" / name).write_text("")
    (tmp_path / "train" / "loose.png").write_text("")
    (tmp_path / "train" / "b" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "test" / "b" / "pipe.png")
    (tmp_path / "test" / "b" / "itself.png").symlink_to("itself.png")
    assert len(load(tmp_path).x_test) == 8
    (told,) = [record.getMessage() for record in caplog.records]
    assert "2 .heic (not an image" in told and "1 .txt (not" in told and "1 in train, in no class folder" in told
    assert "3 that are no regular file or a link to nothing" in told
    assert "DS_Store" not in told and "6 " not in told


@pytest.mark.parametrize("name", ["test", "val", "valid", "Validation"])
def test_the_test_folder_may_have_another_name(tmp_path, caplog, name):
    fill(tmp_path / "train", "a", "b")
    fill(tmp_path / name, "a", "b", images=3)
    assert load(tmp_path).y_test.tolist() == [0, 0, 0, 1, 1, 1]
    assert (f"the images of {name} are tested with" in caplog.text) == (name != "test")


def test_a_validation_folder_beside_a_test_folder_is_said_to_be_ignored(tmp_path, caplog):
    for part in ("train", "val", "test"):
        fill(tmp_path / part, "a", "b")
    assert set(load(tmp_path).files_test) == {f"test/{name}/{i}.png" for name in "ab" for i in range(4)}
    assert "not read: val; validation images are taken from train" in caplog.text


@pytest.mark.parametrize("part", ["train", ""])
def test_without_a_test_folder_a_fifth_of_each_class_is_set_aside(tmp_path, caplog, part):
    fill(tmp_path / part, "a", "b", images=10)
    data = load(tmp_path)
    assert data.y_test.tolist() == [0, 0, 1, 1]
    files = {*data.files_train, *data.files_test}
    assert len(data.files_train) + len(data.x_val) == 16 and not set(data.files_train) & set(data.files_test)
    assert files <= {f"{part}/{name}/{i}.png".lstrip("/") for name in "ab" for i in range(10)}
    assert "4 of 20 are set aside to test with, a fifth of each class, drawn by data.seed=0" in caplog.text
    assert data.fingerprint() == load(tmp_path).fingerprint() != load(tmp_path, seed=1).fingerprint()


def test_too_few_images_to_split_are_told(tmp_path):
    fill(tmp_path, "a", "b", images=2)
    with pytest.raises(InputError, match="class a has too few to split them off"):
        load(tmp_path)


def test_classes_that_differ_are_named(tmp_path, caplog):
    fill(tmp_path / "train", "a", "b", "c", "d")
    fill(tmp_path / "test", "a", "b")
    load(tmp_path)
    assert "has no image of c, d, which is not tested" in caplog.text
    fill(tmp_path / "test", "B", "e")
    with pytest.raises(InputError, match=r"test has classes B, e, which .*train lacks; it has a, b, c, d"):
        load(tmp_path)


def test_folders_whose_meaning_is_unclear_are_refused(tmp_path):
    fill(tmp_path / "train", "a", "b")
    (tmp_path / "test").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "test" / "1.png")
    with pytest.raises(InputError, match="test has no folder of a class, so its images have no labels"):
        load(tmp_path)
    fill(tmp_path / "val", "a", "b")
    fill(tmp_path / "valid", "a", "b")
    with pytest.raises(InputError, match="has val and valid, which may mean the same"):
        load(tmp_path)


def test_a_link_in_a_circle_is_told(tmp_path):
    fill(tmp_path / "train", "a", "b")
    (tmp_path / "train" / "a" / "again").symlink_to(tmp_path / "train", target_is_directory=True)
    with pytest.raises(InputError, match="is a link to a folder above it"):
        load(tmp_path)
