"""Data: sources read from their own file formats, balanced draws, redrawn labels, augmentation, and bad input."""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from ro_fast.config import DataConfig
from ro_fast.data import SOURCES, augment, balanced_subset, crop_flip, load_data, tops
from ro_fast.errors import InputError, WorkError

REAL_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def load(name, path=None, **options):
    return load_data(DataConfig(name=name, path=str(path) if path is not None else None, **options))


def counts(labels, classes=10):
    return torch.bincount(labels, minlength=classes)


# Draws


def test_digits_give_1000_200_597_disjoint_and_complete():
    from sklearn.datasets import load_digits

    data = load("digits")
    parts = (data.x_train, data.x_val, data.x_test)
    assert [tuple(x.shape) for x in parts] == [(1000, 1, 8, 8), (200, 1, 8, 8), (597, 1, 8, 8)]
    assert data.x_train.dtype == torch.uint8
    assert data.num_classes == 10
    assert data.redrawn is None
    rows = torch.cat(parts).flatten(1).numpy()
    labels = torch.cat([data.y_train, data.y_val, data.y_test]).numpy()
    found = sorted(map(bytes, np.column_stack([rows, labels]).astype(np.uint8)))
    bunch = load_digits()
    assert found == sorted(map(bytes, np.column_stack([bunch.data, bunch.target]).astype(np.uint8)))
    for y in (data.y_val, data.y_test):
        assert counts(y).max() - counts(y).min() <= 1


def test_subsets_are_class_balanced_and_validation_follows_their_size():
    data = load("digits", train_size=500, test_size=101)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (500, 100, 101)
    for y in (data.y_train, data.y_val, data.y_test):
        assert counts(y).max() - counts(y).min() <= 1


def test_balanced_subset_is_as_even_as_the_labels_allow():
    labels = np.repeat([0, 1, 2, 3], [50, 3, 50, 20])
    chosen = balanced_subset(labels, 50, np.random.default_rng(0))
    assert sorted(np.bincount(labels[chosen])) == [3, 15, 16, 16]
    assert len(np.unique(chosen)) == 50
    larger = balanced_subset(labels, 90, np.random.default_rng(0))
    assert set(chosen) < set(larger)
    assert np.bincount(labels[larger]).tolist() in ([33, 3, 34, 20], [34, 3, 33, 20])


def test_draws_follow_from_the_seed_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    a = load("digits", label_noise=0.2, train_size=300)
    torch.manual_seed(2)
    np.random.seed(2)
    assert a.fingerprint() == load("digits", label_noise=0.2, train_size=300).fingerprint()
    assert a.fingerprint() != load("digits", label_noise=0.2, train_size=300, seed=1).fingerprint()


def test_redrawn_labels_are_a_share_of_training_and_validation_but_never_of_test():
    clean, noisy = load("digits"), load("digits_noisy", label_noise=0.2)
    assert torch.equal(clean.x_train, noisy.x_train)
    assert torch.equal(clean.y_test, noisy.y_test)
    changed = clean.y_train != noisy.y_train
    assert noisy.redrawn[changed].all()
    assert noisy.redrawn.float().mean() == pytest.approx(0.2, abs=0.03)
    assert changed.float().mean() == pytest.approx(0.18, abs=0.03)  # a tenth is redrawn onto its own class
    assert (clean.y_val != noisy.y_val).float().mean() == pytest.approx(0.18, abs=0.08)
    assert counts(load("digits", label_noise=1.0).y_train).min() > 70  # uniform: 100 ± 9.5
    less = load("digits", label_noise=0.1)
    assert noisy.redrawn[less.redrawn].all()


# Data set as an object


def test_images_mean_std_and_batches():
    data = load("digits")
    x = data.images(data.x_train)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)
    mean, std = data.mean_std()
    assert mean == pytest.approx([x.double().mean().item()])
    assert std == pytest.approx([x.double().std(correction=0).item()])


def test_mean_std_by_channel_and_safe_for_constant_ones(tmp_path):
    x = np.random.default_rng(0).random((40, 3, 4, 4), dtype=np.float32)
    x[:, 2] = 0.25
    data = load("npz", save_npz(tmp_path, x_train=x, x_test=x[:20]))
    mean, std = data.mean_std()
    kept = data.x_train.double()
    assert mean == pytest.approx(kept.mean((0, 2, 3)).tolist())
    assert std[:2] == pytest.approx(kept.std((0, 2, 3), correction=0).tolist()[:2])
    assert std[2] == 1


@pytest.mark.parametrize("field", ["x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "redrawn"])
def test_fingerprint_sees_every_tensor(field):
    data = load("digits", label_noise=0.1, train_size=50)
    tensor = getattr(data, field).clone()
    tensor[3] = ~tensor[3] if tensor.dtype == torch.bool else (tensor[3] + 1) % 10
    assert dataclasses.replace(data, **{field: tensor}).fingerprint() != data.fingerprint()
    assert data.to("cpu").fingerprint() == data.fingerprint()


# Augmentation


def crop_flip_by_loop(x, down, right, flip):
    """Pads, crops and flips one sample after the other."""
    out = torch.empty_like(x)
    for i in range(len(x)):
        padded = torch.nn.functional.pad(x[i : i + 1].double(), (4, 4, 4, 4), mode="reflect")[0]
        crop = padded[:, down[i] : down[i] + x.shape[2], right[i] : right[i] + x.shape[3]]
        out[i] = crop.flip(-1) if flip[i] else crop
    return out


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (9, 1, 5, 11), (0, 1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_flip_equals_a_loop_over_samples(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, shape, generator=generator).to(dtype)
    down, right = torch.randint(9, (2, shape[0]), generator=generator)
    flip = torch.rand(shape[0], generator=generator) < 0.5
    result = crop_flip(x, down, right, flip)
    assert result.dtype == dtype
    assert torch.equal(result, crop_flip_by_loop(x, down, right, flip))


def test_each_sample_has_its_own_offsets_drawn_from_the_generator():
    x = torch.arange(256).view(1, 1, 16, 16).expand(500, 1, 16, 16)

    def run(kind, seed):
        return augment(x, kind, torch.Generator().manual_seed(seed))

    assert len(run("crop", 0).flatten(1).unique(dim=0)) == 81  # every offset occurs
    flipped = run("crop_flip", 0)
    assert len(flipped.flatten(1).unique(dim=0)) > 140  # of 162
    assert torch.equal(flipped, run("crop_flip", 0))
    assert not torch.equal(flipped, run("crop_flip", 1))
    assert run("none", 0) is x


@pytest.mark.parametrize(
    ("shape", "kind", "told"),
    [
        ((2, 1, 8, 8), "cutout", "none, crop, crop_flip"),
        ((2, 1, 4, 8), "crop", "larger than 4 x 4"),
        ((2, 64), "crop_flip", "augment=none"),
    ],
)
def test_what_cannot_be_augmented_is_refused(shape, kind, told):
    with pytest.raises(InputError, match=told):
        augment(torch.zeros(shape), kind)


# Sources


def save_npz(folder, **arrays):
    rng = np.random.default_rng(0)
    base = {
        "x_train": rng.random((40, 1, 6, 6)),
        "y_train": np.arange(40) % 4,
        "x_test": rng.random((20, 1, 6, 6)),
        "y_test": np.arange(20) % 4,
    }
    path = folder / "own data.npz"
    np.savez(path, **{key: value for key, value in {**base, **arrays}.items() if value is not None})
    return path


def test_npz_of_floats_and_of_bytes(tmp_path):
    data = load("npz", save_npz(tmp_path))
    assert (data.x_train.dtype, data.scale, data.num_classes, data.image_shape) == (torch.float32, 1.0, 4, (1, 6, 6))
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (34, 6, 20)
    images = np.full((40, 9), 51, dtype=np.uint8)
    y = (np.arange(40) % 4).astype
    data = load("npz", save_npz(tmp_path, x_train=images, x_test=images[:20], y_train=y("u1"), y_test=y("f8")[:20]))
    assert data.image_shape == (9,)
    assert data.y_train.dtype == torch.int64
    assert torch.equal(data.images(data.x_test), torch.full((20, 9), 0.2))


def with_value(value, shape=(40, 1, 6, 6)):
    x = np.full(shape, 0.5)
    x.flat[7] = value
    return x


def with_label(value, n=40, dtype=int):
    y = (np.arange(n) % 4).astype(dtype)
    y[5] = value
    return y


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x_train": with_value(255.0)}, r"x_train spans \[0.5, 255\].*\[0, 1\]"),
        ({"x_test": with_value(-0.1, (20, 1, 6, 6))}, "x_test spans"),
        ({"x_train": with_value(np.nan)}, "x_train holds NaN"),
        ({"x_test": with_value(np.inf, (20, 1, 6, 6))}, "x_test holds NaN or infinite"),
        ({"x_train": np.zeros((40, 1, 6, 6), dtype=np.int64)}, "x_train is int64.*uint8 or float"),
        ({"x_train": np.zeros((40, 1, 6, 6), dtype=np.uint8)}, "x_train is uint8 but x_test float32"),
        ({"x_train": np.zeros((40, 6, 6))}, r"x_train has shape \[40, 6, 6\].*\[N, C, H, W\]"),
        ({"x_train": np.zeros((40, 6, 6, 3))}, "channels last"),
        ({"x_test": np.zeros((20, 1, 6, 7))}, r"training image is \[1, 6, 6\] but a test image \[1, 6, 7\]"),
        ({"x_train": np.zeros((0, 1, 6, 6)), "y_train": np.zeros(0, dtype=int)}, "x_train is empty"),
        ({"y_train": with_label(-1)}, "y_train holds label -1"),
        ({"y_train": with_label(99)}, "up to 99 but no training image has label 4"),
        ({"y_test": with_label(4, 20)}, "up to 4 but no training image has label 4"),
        ({"y_train": np.arange(40) % 4 + 1, "y_test": np.arange(20) % 4 + 1}, "no training image has label 0"),
        ({"y_train": np.zeros(40, dtype=int), "y_test": np.zeros(20, dtype=int)}, "at least two classes"),
        ({"y_train": np.arange(40) % 4 + 0.5}, "y_train holds 0.5; labels must be whole numbers"),
        ({"y_train": with_label(np.nan, dtype=float)}, "y_train holds nan; labels must be whole numbers"),
        ({"y_train": with_label(1e300, dtype=float)}, r"y_train holds 1e\+300; labels must be whole numbers"),
        ({"y_train": np.array(["cat"] * 40)}, "y_train is <U3; labels must be integers"),
        ({"x_train": np.zeros((40, 1, 6, 6), dtype=complex)}, "x_train is complex128; it must be uint8 or float"),
        ({"x_train": np.full((40, 1, 6, 6), "a")}, "x_train is <U1; it must be uint8 or float"),
        ({"y_train": np.arange(39) % 4}, r"y_train has shape \[39\] beside 40 images"),
        ({"y_test": np.eye(20, dtype=int)}, r"y_test has shape \[20, 20\]"),
        ({"y_test": None}, "lacks y_test; it holds x_test, x_train, y_train"),
        ({"y_train": np.array([None] * 40)}, "y_train holds Python objects, which could run code"),
    ],
)
def test_bad_arrays_are_told_in_one_line(tmp_path, arrays, told):
    path = save_npz(tmp_path, **arrays)
    with pytest.raises(InputError, match=told) as error:
        load("npz", path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "imagenet"}, "cifar100"),
        ({"train_size": 1100}, "1100 plus 220.*1200"),
        ({"train_size": 2000, "val_size": 10}, "2000 plus 10.*1200"),
        ({"val_size": 1200}, "1200"),
        ({"test_size": 598}, "598 exceeds the 597"),
        ({"train_size": 0}, "train_size is 0"),
        ({"train_size": 9}, "train_size=9 leaves a class without an image; digits has 10 classes"),
        ({"train_share": 0.0}, "train_share is 0.0; it must be a share above 0"),
        ({"train_size": 100, "train_share": 0.05}, "train_share=0.05 leaves 5 of 100 training images for 10 classes"),
        ({"train_size": 100, "unlabelled": 0.95}, "unlabelled=0.95 leaves 5 of 100 training images for 10 classes"),
        ({"val_size": -1}, "val_size is -1"),
        ({"label_noise": 20.0}, "label_noise is 20"),
        ({"seed": -1}, "seed is -1"),
        ({"augment": "flip"}, "none, crop, crop_flip"),
        ({"name": "npz"}, "data.path"),
        ({"name": "folder", "path": "nowhere/at all"}, "nowhere/at all does not exist.*train/ and test/"),
        ({"name": "fashion_mnist", "path": "nowhere"}, "apt install dataset-fashion-mnist.*download=true"),
        ({"name": "cifar10", "path": "nowhere"}, r"cifar-10-python.tar.gz.*download=true.*pip install \w"),
        ({"name": "cifar100", "path": "nowhere"}, "cifar-100-python.tar.gz"),
        ({"name": "svhn", "path": "nowhere"}, "train_32x32.mat"),
    ],
)
def test_a_bad_config_is_told(options, told):
    with pytest.raises(InputError, match=told):
        load_data(DataConfig(**{"name": "digits", **options}))


@pytest.mark.parametrize("name", ["npz", "folder", "fashion_mnist", "cifar10", "svhn"])
def test_a_file_that_is_not_what_it_says(tmp_path, name):
    path = tmp_path / "junk.npz"
    path.write_bytes(b"PK\x03\x04 not really")
    if name == "folder":
        path = tmp_path
        for part in ("train", "test"):
            (tmp_path / part / "a").mkdir(parents=True)
            (tmp_path / part / "a" / "1.png").write_bytes(b"text")
    elif name != "npz":
        path = tmp_path
        files = [f"{p}-{k}-ubyte" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]
        files += [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "train_32x32.mat", "test_32x32.mat"]
        for file in files:
            (tmp_path / file).write_bytes(b"text")
    with pytest.raises(InputError, match="is not a"):
        load(name, path)


def test_missing_torchvision_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match=r"needs torchvision.*: pip install \w"):
        load("svhn", tmp_path, download=True)


def test_download_goes_through_torchvision_into_data_path(tmp_path, monkeypatch):
    class FashionMNIST:
        def __init__(self, root, train, download):
            raw = Path(root) / "FashionMNIST" / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            write_fashion_mnist(raw, pack=True)

    datasets = types.SimpleNamespace(FashionMNIST=FashionMNIST)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    assert len(load("fashion_mnist", tmp_path / "new", download=True).x_test) == 60

    def fail(*args, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr(datasets, "FashionMNIST", fail)
    with pytest.raises(WorkError, match=r"could not download FashionMNIST.*no network"):
        load("fashion_mnist", tmp_path / "other", download=True)


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion_mnist(folder, pack):
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(60, 28, 28), dtype=np.uint8), (np.arange(60) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", x), ("labels-idx1", y)):
            content = gzip.compress(idx(array)) if pack else idx(array)
            (folder / f"{part}-{kind}-ubyte{'.gz' if pack else ''}").write_bytes(content)
    return x, y


@pytest.mark.parametrize("pack", [True, False])
def test_fashion_mnist_from_idx_files(tmp_path, pack):
    x, y = write_fashion_mnist(tmp_path, pack)
    data = load("fashion_mnist", tmp_path)
    assert torch.equal(data.x_test[:, 0], torch.from_numpy(x))
    assert torch.equal(data.y_test, torch.from_numpy(y).long())
    assert (len(data.x_train), len(data.x_val), data.num_classes) == (50, 10, 10)
    assert data.class_name(0) == "T-shirt" and data.class_name(9) == "boot"


def test_a_truncated_idx_file(tmp_path):
    write_fashion_mnist(tmp_path, pack=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"train-images.*cannot be read"):
        load("fashion_mnist", tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(InputError, match=r"47039 bytes of data but declares shape \[60, 28, 28\]"):
        load("fashion_mnist", tmp_path)


@pytest.mark.skipif(not REAL_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian():
    data = load("fashion_mnist", train_size=2000)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (2000, 400, 2000)
    assert counts(data.y_train).tolist() == [200] * 10
    assert data.mean_std()[0][0] == pytest.approx(0.286, abs=0.01)
    assert [len(load("fashion_mnist", train_size=n).y_test) for n in (50, None)] == [1000, 10000]


def test_tops_come_with_the_package():
    data = load("tops", train_size=400, val_size=200, test_size=700)
    assert (len(data.x_train), len(data.x_val), len(data.x_test), data.image_shape) == (400, 200, 700, (1, 14, 14))
    assert counts(data.y_train, 5).tolist() == [80] * 5 and data.class_names[4] == "shirt"


@pytest.mark.skipif(not REAL_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_tops_are_what_they_say():
    with np.load(tops.FILE) as stored:
        for name, array in tops.make(REAL_FASHION_MNIST).items():
            assert stored[name].dtype == np.uint8 and np.array_equal(stored[name], array), name


def cifar_files(label_key, names, classes):
    rng = np.random.default_rng(0)
    for name in names:
        labels = (np.arange(2 * classes) % classes).tolist()
        yield name, {"data": rng.integers(256, size=(2 * classes, 3072), dtype=np.uint8), label_key: labels}


CIFAR = {
    "cifar10": ("cifar-10-batches-py", "labels", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], 10),
    "cifar100": ("cifar-100-python", "fine_labels", ["train", "test"], 100),
}


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("bytes_keys", [True, False])
def test_cifar_unpacked_and_as_archive(tmp_path, name, bytes_keys):
    folder, label_key, names, classes = CIFAR[name]
    archive = tmp_path / "archive" / f"cifar-{classes}-python.tar.gz"
    (tmp_path / folder).mkdir()
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for file, batch in cifar_files(label_key, names, classes):
            content = pickle.dumps({k.encode() if bytes_keys else k: v for k, v in batch.items()}, protocol=2)
            (tmp_path / folder / file).write_bytes(content)
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = load(name, tmp_path)
    assert torch.equal(data.x_test, torch.from_numpy(batch["data"]).view(-1, 3, 32, 32))
    assert data.y_test.tolist() == batch[label_key]
    assert data.num_classes == classes
    assert len(data.x_train) + len(data.x_val) == 2 * classes * (len(names) - 1)
    for path in (tmp_path / folder, archive.parent, archive):
        assert load(name, path).fingerprint() == data.fingerprint()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_code(tmp_path):
    for file in CIFAR["cifar10"][2]:
        (tmp_path / file).write_bytes(pickle.dumps({"data": Harmful(tmp_path / "ran")}, protocol=2))
    with pytest.raises(InputError, match=r"data_batch_1.*not a pickle of arrays.*mkdir"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_svhn_from_mat_files(tmp_path):
    from scipy.io import savemat

    x = np.random.default_rng(0).integers(256, size=(32, 32, 3, 40), dtype=np.uint8)
    y = (np.arange(40) % 10 + 1).astype(np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": x, "y": y[:, None]})
    data = load("svhn", tmp_path)
    assert torch.equal(data.x_test[7, 2], torch.from_numpy(x[:, :, 2, 7].copy()))
    assert data.y_test[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def write_image(path, value=0, size=(8, 6), mode="RGB"):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value, 10, 20) if mode == "RGB" else value
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def image_folder(tmp_path):
    for part in ("train", "test"):
        for label, name in enumerate(["big cat", "猫", "鳥 の 写真"]):
            for i in range(4):
                write_image(tmp_path / part / name / f"画像 {i}.png", value=100 * label)
    (tmp_path / "train" / "猫" / "notes.txt").write_text("not an image")
    return tmp_path


def test_folder_of_images_with_any_names(image_folder):
    data = load("folder", image_folder)
    assert (data.num_classes, data.image_shape) == (3, (3, 6, 8))
    assert len(data.x_train) + len(data.x_val) == 12
    assert data.y_test.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(data.x_test[:, 0, 0, 0].long(), 100 * data.y_test)
    assert torch.equal(data.x_train[:, 0, 0, 0].long(), 100 * data.y_train)


@pytest.mark.parametrize("image", [{"size": (8, 7)}, {"mode": "L"}])
def test_folder_whose_images_differ_names_two_files(image_folder, image):
    write_image(image_folder / "test" / "猫" / "odd one.png", **image)
    with pytest.raises(InputError, match=r"big cat.画像 0.png is 3x6x8 but .*猫.odd one.png is"):
        load("folder", image_folder)


def test_folder_problems_are_told(image_folder):
    write_image(image_folder / "test" / "犬" / "1.png")
    with pytest.raises(InputError, match=r"test has class 犬, which .*train lacks; it has big cat"):
        load("folder", image_folder)
    (image_folder / "train" / "犬").mkdir()
    with pytest.raises(InputError, match="犬 contains no image"):
        load("folder", image_folder)
    with pytest.raises(InputError, match=r"has no folder train, but .* has; give data.path="):
        load("folder", image_folder.parent)
    with pytest.raises(InputError, match="no folder train and no two folders with images"):
        load("folder", image_folder / "train" / "猫")


def test_every_source_has_a_config_of_its_name():
    import yaml

    folder = Path(__file__).parents[2] / "configs" / "data"
    configs = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yaml")}
    assert {name: configs[name].get("name") for name in SOURCES} == {name: name for name in SOURCES}
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    assert all(set(config) <= fields | {"defaults"} for config in configs.values())
    assert configs["digits_noisy"]["label_noise"] == 0.2
