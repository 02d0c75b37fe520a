"""Where images come from: one function per source, which reads its files into arrays and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ro_fast.config import DataConfig
from ro_fast.data import tops
from ro_fast.data.arrays import Arrays
from ro_fast.data.fetch import find_or_download
from ro_fast.data.files import read_bytes, read_idx, read_mat, read_npz, read_pickle
from ro_fast.data.image_csv import list_csv
from ro_fast.data.image_folder import list_folder
from ro_fast.data.image_list import read_listing
from ro_fast.data.notices import say_once
from ro_fast.data.saved_datasets import list_saved
from ro_fast.data.subsets import balanced_subset, stream
from ro_fast.data.validate import whole
from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.said import Said

DIGITS_TEST_SIZE = 597  # of 1797; leaves 1000 to train on and 200 to validate
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def digits(config: DataConfig) -> Arrays:
    """Reads scikit-learn's 1797 handwritten digits of 8×8 pixels and 17 grey levels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(f"data={config.name} needs scikit-learn ({error}): {pip_install('train')}") from error
    _say_without_path(config)
    bunch = load_digits()
    x, y = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    test = balanced_subset(y, DIGITS_TEST_SIZE, stream(config.seed, "held_out"))
    pool = np.setdiff1d(np.arange(len(y)), test)
    return Arrays(
        "digits",
        x[pool],
        y[pool],
        x[test],
        y[test],
        scale=16.0,
        num_classes=10,
        rows=(pool, test),
        numbering=Said("numbering.digits", "row of scikit-learn's load_digits, counted from 0"),
    )


def embedded_tops(config: DataConfig) -> Arrays:
    """Read five kinds of clothes that look alike, 14×14 grey levels, which come with the package: ro_fast/data/tops.py."""
    _say_without_path(config)
    x_train, y_train, x_test, y_test = read_npz(tops.FILE, ("x_train", "y_train", "x_test", "y_test"))
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return Arrays("tops", x_train, y_train, x_test, y_test, num_classes=len(tops.NAMES), class_names=tops.NAMES)


def fashion_mnist(config: DataConfig) -> Arrays:
    """Reads Fashion-MNIST's four IDX files (Xiao et al. 2017, arXiv 1708.07747)."""
    advice = "install Debian's dataset-fashion-mnist (apt install dataset-fashion-mnist)"
    return replace(_idx_files(config, "FashionMNIST", DEBIAN_FASHION_MNIST, advice), class_names=CLOTHES)


def mnist(config: DataConfig) -> Arrays:
    """Reads MNIST's four IDX files (LeCun et al. 1998)."""
    return _idx_files(config, "MNIST")


def _idx_files(config: DataConfig, torchvision_name: str, system: Path | None = None, advice: str | None = None) -> Arrays:
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    folders = ("", f"{torchvision_name}/raw")
    files = find_or_download(
        config, names, folders=folders, torchvision_name=torchvision_name, system=system, advice=advice
    )
    x_train, y_train, x_test, y_test = (read_idx(files[name], ndim=3 if "images" in name else 1) for name in names)
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return Arrays(config.name, x_train[:, None], y_train, x_test[:, None], y_test, num_classes=10)


def cifar10(config: DataConfig) -> Arrays:
    """Reads CIFAR-10's Python version (Krizhevsky 2009), unpacked or as its archive."""
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar(config, "cifar-10", batches, "test_batch", label_key="labels", num_classes=10)


def cifar100(config: DataConfig) -> Arrays:
    """Reads CIFAR-100's Python version (Krizhevsky 2009), unpacked or as its archive, with its fine labels."""
    return _cifar(config, "cifar-100", ["train"], "test", label_key="fine_labels", num_classes=100)


def _cifar(config: DataConfig, stem: str, train: list[str], test: str, *, label_key: str, num_classes: int) -> Arrays:
    folder = f"{stem}-batches-py" if stem == "cifar-10" else f"{stem}-python"
    files = find_or_download(
        config,
        [*train, test],
        folders=("", folder),
        archive=f"{stem}-python.tar.gz",
        torchvision_name=stem.replace("-", "").upper(),
    )

    def read(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        images, labels = [], []
        for name in names:
            batch = read_pickle(read_bytes(files[name], f"{folder}/{name}"), f"{files[name]} ({name})")
            try:
                images.append(np.asarray(batch["data"]).reshape(-1, 3, 32, 32))
                labels.append(whole(np.asarray(batch[label_key]).reshape(-1)))
            except (KeyError, ValueError) as error:
                wanted = f"data [N, 3072] and {label_key} [N]"
                raise InputError(f"{files[name]} ({name}) is not a batch of {stem}: it must hold {wanted}") from error
        return np.concatenate(images), np.concatenate(labels)

    return Arrays(config.name, *read(train), *read([test]), num_classes=num_classes)


def svhn(config: DataConfig) -> Arrays:
    """Reads SVHN's cropped digits (Netzer et al. 2011) from its two .mat files, in which 10 stands for the digit 0."""
    names = ["train_32x32.mat", "test_32x32.mat"]
    files = find_or_download(config, names, folders=("",), torchvision_name="SVHN")

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        x, y = read_mat(path, ("X", "y"))  # [32, 32, 3, N] and [N, 1]
        if x.ndim != 4:
            raise InputError(f"{path} is not SVHN's: X has shape {list(x.shape)}; it must be [32, 32, 3, N]")
        y = whole(y.reshape(-1))
        return np.ascontiguousarray(x.transpose(3, 2, 0, 1)), y % 10 if y.dtype == np.int64 else y

    return Arrays("svhn", *read(files[names[0]]), *read(files[names[1]]), num_classes=10)


def npz(config: DataConfig) -> Arrays:
    """Reads x_train, y_train, x_test and y_test of one .npz file."""
    path = _own_path(config, "an .npz file with x_train, y_train, x_test and y_test")
    x_train, y_train, x_test, y_test = read_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    scale = 255.0 if x_train.dtype == np.uint8 else 1.0
    numbering = Said("numbering.arrays", "row of x_train or x_test, counted from 0")
    return Arrays(
        str(path), _as_float32(x_train), whole(y_train), _as_float32(x_test), whole(y_test), scale, numbering=numbering
    )


def folder(config: DataConfig) -> Arrays:
    """Reads images in folders, one per class, below train/ and a test folder; classes are numbered by sorted name."""
    path = _own_path(config, "a folder with train/ and test/, each with one folder per class")
    return read_listing(list_folder(path), config.skip_bad, config.seed)


def image_csv(config: DataConfig) -> Arrays:
    """Reads the images that a CSV of paths and labels names."""
    path = _own_path(config, "a .csv file with columns path and label, and split if you have test images")
    return read_listing(list_csv(path), config.skip_bad, config.seed)


def saved_datasets(config: DataConfig) -> Arrays:
    """Reads the images of a folder that Hugging Face's datasets have written with save_to_disk."""
    path = _own_path(config, "a folder written by save_to_disk of Hugging Face's datasets")
    return read_listing(list_saved(path), config.skip_bad, config.seed)


def _say_without_path(config: DataConfig) -> None:
    if config.path is not None:
        say_once(f"data={config.name} comes with the package: data.path={config.path} is not read")


def _own_path(config: DataConfig, what: str) -> Path:
    if config.path is None:
        raise InputError(f"data={config.name} needs data.path=..., {what}")
    path = Path(config.path).expanduser()
    if not path.exists():
        raise InputError(f"data.path={config.path} does not exist; it must be {what}")
    return path


def _as_float32(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # values that float32 cannot hold become infinite and are rejected later
        return x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x


SOURCES: dict[str, Callable[[DataConfig], Arrays]] = {
    "digits": digits,
    "digits_noisy": digits,  # its label noise is set in its config
    "tops": embedded_tops,
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "svhn": svhn,
    "npz": npz,
    "folder": folder,
    "csv": image_csv,
    "datasets": saved_datasets,
}
