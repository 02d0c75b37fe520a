"""Requirements on images and labels before anything trains on them."""

from __future__ import annotations

import numpy as np

from ro_fast.data.arrays import Arrays
from ro_fast.data.stored_images import StoredImages
from ro_fast.errors import InputError


def validate(source: Arrays) -> int:
    """Returns the number of classes of valid images and labels.

    Raises:
        InputError: names what is wrong, in which array, and what would be right.
    """
    where = source.where
    for part, x, y in (("train", source.x_train, source.y_train), ("test", source.x_test, source.y_test)):
        if not isinstance(x, StoredImages):  # decoded from files, as they should be
            check_images(x, f"{where}: x_{part}")
        check_labels(y, len(x), f"{where}: y_{part}")
    if (a := source.x_train.shape[1:]) != (b := source.x_test.shape[1:]):
        raise InputError(f"{where}: a training image is {list(a)} but a test image {list(b)}; they must agree")
    train_dtype, test_dtype = source.x_train.dtype, source.x_test.dtype
    if train_dtype != test_dtype:
        raise InputError(f"{where}: x_train is {train_dtype} but x_test {test_dtype}; they must agree")
    return _count_classes(source)


def check_images(x: np.ndarray, name: str) -> None:
    """Raises InputError if images are not [N, C, H, W] or [N, D], uint8 or float32 in [0, 1]."""
    shape = list(x.shape)
    if x.ndim not in (2, 4):
        raise InputError(f"{name} has shape {shape}; it must be [N, C, H, W] or [N, D]")
    if x.size == 0:
        raise InputError(f"{name} is empty, shape {shape}")
    if x.ndim == 4 and shape[3] in (1, 3) and shape[1] == shape[2] > 4:
        raise InputError(f"{name} has shape {shape}, which is channels last; transpose it to [N, C, H, W]")
    if x.dtype == np.uint8:
        return
    if x.dtype != np.float32:
        raise InputError(f"{name} is {x.dtype}; it must be uint8 or float in [0, 1]")
    low, high = x.min(), x.max()  # NaN if any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{name} holds NaN or infinite values; all must lie in [0, 1]")
    if low < 0 or high > 1:
        raise InputError(f"{name} spans [{low:g}, {high:g}]; float images must lie in [0, 1], before any normalisation")


def whole(y: np.ndarray) -> np.ndarray:
    """Labels as int64 where they are whole numbers, of whatever type; others as they are."""
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2**31)).all():
        return y
    return y.astype(np.int64) if y.dtype.kind in "iuf" else y


def check_labels(y: np.ndarray, images: int, name: str) -> None:
    """Raises InputError if labels are not int64 from 0, one per image."""
    if y.dtype.kind == "f" and y.size:
        odd = y[~(np.isfinite(y) & (y == np.floor(y)))]
        raise InputError(f"{name} holds {odd.flat[0] if odd.size else y.max():g}; labels must be whole numbers: 0, 1, ...")
    if y.dtype != np.int64:
        raise InputError(f"{name} is {y.dtype}; labels must be integers")
    if y.shape != (images,):
        raise InputError(f"{name} has shape {list(y.shape)} beside {images} images; there must be one label per image")
    if (low := y.min()) < 0:
        raise InputError(f"{name} holds label {low}; labels must be 0, 1, ... without gaps")


def _count_classes(source: Arrays) -> int:
    train, test = np.unique(source.y_train).tolist(), np.unique(source.y_test).tolist()
    largest = max(train[-1], test[-1])
    if source.num_classes is not None:
        if largest >= source.num_classes:
            raise InputError(f"{source.where}: label {largest} is out of range; there are {source.num_classes} classes")
        return source.num_classes
    # A gap means labels that start at 1, or a stray value such as 255: either would train dead outputs.
    missing = next((label for label, found in enumerate([*train, None]) if label != found))
    if missing <= largest:
        raise InputError(
            f"{source.where}: labels go up to {largest} but no training image has label {missing}; "
            "labels must be 0, 1, ... without gaps"
        )
    if largest == 0:
        raise InputError(f"{source.where}: every label is 0; a classifier needs at least two classes")
    return largest + 1
