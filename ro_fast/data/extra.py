"""Additional training images from a separate file, with or without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ro_fast.data.files import read_arrays
from ro_fast.data.validate import check_images, check_labels, whole
from ro_fast.errors import InputError
from ro_fast.storage.paths import given_file


def read_extra(path: str, image_shape: tuple[int, ...], num_classes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Images, uint8 or float32 in [0, 1], of an .npz file's x, and int64 labels of its y, or None if it has none.

    Raises:
        InputError: if the file is missing or not such a file, or its images and labels don't match the training images.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise InputError(f"data.extra={path} does not exist; it must be an .npz file with x and, where labels are known, y")
    arrays = read_arrays(given_file(file, f"data.extra={path}"), ("x",), optional=("y",))
    x, y = arrays["x"], arrays.get("y")
    x = x.astype(np.float32) if x.dtype.kind == "f" else np.array(x)  # in memory, also if it is mapped from its file
    check_images(x, f"{path}: x")
    if x.shape[1:] != image_shape:
        raise InputError(f"{path}: an image is {list(x.shape[1:])} but a training image {list(image_shape)}; they must agree")
    if y is None:
        return x, None
    y = whole(y)
    check_labels(y, len(x), f"{path}: y")
    if y.max() >= num_classes:
        raise InputError(f"{path}: label {y.max()} is out of range; there are {num_classes} classes")
    return x, y
