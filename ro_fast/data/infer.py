"""Which source can read what lies at a path, for data.path= without data=."""

from __future__ import annotations

import os
from pathlib import Path

from ro_fast.data.image_file import suffixes
from ro_fast.data.image_folder import TRAIN, folders_in, images_below
from ro_fast.data.saved_datasets import is_saved
from ro_fast.errors import InputError

_NEEDED = "name it with data=NAME; ro-fast train --help=data lists the data sets"
_BY_SUFFIX = {".npz": "npz", ".csv": "csv", ".tsv": "csv"}
_IDX = "train-images-idx3-ubyte"


def source_at(path: str) -> tuple[str, str]:
    """Returns the source that reads what lies at a path, and by what it was recognised.

    Raises:
        InputError: if there is nothing, nothing known, or something that several sources may mean.
    """
    place = Path(os.path.expanduser(path))
    if not path or not os.path.exists(place):
        raise InputError(f"data.path={path} does not exist, so it doesn't tell which data are meant; correct it, or {_NEEDED}")
    found = _in_folder(place) if place.is_dir() else _of_file(place)
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        told = ", ".join(f"data={name} ({why})" for name, why in found.items())
        raise InputError(f"data.path={path} may be meant as {told}; add one of them")
    possible = "class folders of images, an .npz or .csv file, or the files of CIFAR, SVHN or MNIST as they are downloaded"
    raise InputError(f"data.path={path} is none of {possible}{_hint(place)}; if it is data all the same, {_NEEDED}")


def _of_file(file: Path) -> dict[str, str]:
    if name := _BY_SUFFIX.get(file.suffix.lower()):
        return {name: f"a file {file.suffix.lower()}"}
    archives = {"cifar-10-python.tar.gz": "cifar10", "cifar-100-python.tar.gz": "cifar100"}
    return {archives[file.name]: "its archive"} if file.name in archives else {}


def _in_folder(folder: Path) -> dict[str, str]:
    def has(*names: str) -> bool:
        return any((folder / name).exists() for name in names)

    if is_saved(folder):
        return {"datasets": "written by save_to_disk"}
    found: dict[str, str] = {}
    if has("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"):
        found["cifar10"] = "its batches"
    if has("cifar-100-python", "cifar-100-python.tar.gz") or ((folder / "train").is_file() and (folder / "test").is_file()):
        found["cifar100"] = "its batches"
    if has("train_32x32.mat"):
        found["svhn"] = "train_32x32.mat"
    if has("FashionMNIST/raw"):
        found["fashion_mnist"] = "FashionMNIST/raw"
    if has("MNIST/raw"):
        found["mnist"] = "MNIST/raw"
    if has(_IDX, f"{_IDX}.gz"):
        # The files of both have the same names and shapes; only the folder's name may tell.
        place = str(folder.resolve()).lower()
        names = ["fashion_mnist"] if "fashion" in place else ["mnist", "fashion_mnist"]
        found |= dict.fromkeys(names, _IDX)
    folders = folders_in(folder)
    trained = [inner.name for inner in folders if inner.name.lower() in TRAIN]
    if trained:
        found["folder"] = f"{trained[0]}/"
    elif not found and (classes := sum(map(images_below, folders))) > 1:
        found["folder"] = f"{classes} folders of images"
    return found


def _hint(place: Path) -> str:
    """What else there is, if anything may have been meant."""
    if not place.is_dir():
        return ""
    files = sorted(file.name for file in place.iterdir() if file.suffix.lower() in _BY_SUFFIX)
    if files:
        return f"; it holds {', '.join(files[:3])}: give data.path={place / files[0]}"
    loose = sum(file.suffix.lower() in suffixes() for file in place.iterdir())
    return f"; its {loose} images are in no folder of a class" if loose else ""
