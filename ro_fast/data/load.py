"""From a config to a data set: load, validate, take class-balanced subsets, redraw labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import from_numpy

from ro_fast.config import DataConfig
from ro_fast.data.arrays import Arrays
from ro_fast.data.augment import check_augment
from ro_fast.data.bias import biased
from ro_fast.data.check_file import leave_out
from ro_fast.data.extra import read_extra
from ro_fast.data.image_data import ImageData
from ro_fast.data.notices import say_once
from ro_fast.data.sources import SOURCES
from ro_fast.data.stored_images import AnyImages, StoredImages, in_memory, rows_of
from ro_fast.data.subsets import balanced_subset, redraw_labels, stream, validation_subset
from ro_fast.data.validate import validate
from ro_fast.errors import InputError


def load_data(config: DataConfig) -> ImageData:
    """Loads the images named in a config, checked, with a validation split taken from train: class-balanced, or stratified
    where that would take most of a rare class.

    All draws (subsets, split, redrawn labels) are determined by config.seed. Labels are redrawn in the whole training pool,
    validation included, after the split: the same images are redrawn at every noise level, and a label's redraw does
    not depend on the sizes. Test labels stay as they are. data.bias touches training images only. data.exclude removes
    images last, those that were drawn for validation or set aside without labels too: all others are in the part and order
    that they have without it, and no other image takes the place of one that is left out.

    Args:
        config: name, path, sizes, label noise and seed, see :class:`ro_fast.config.DataConfig`.

    Returns:
        The data, on the CPU.

    Raises:
        InputError: on an unknown name, missing files, bad images or labels, sizes beyond what is available, or a data.exclude of
            other data.
    """
    _check_config(config)
    source = SOURCES[config.name](config)
    num_classes = validate(source)
    check_augment(config.augment, source.x_train.shape[1:])
    train, val = _split(config, source)
    test = _take_test(config, source.y_test)
    labels, redrawn = redraw_labels(source.y_train, config.label_noise, num_classes, stream(config.seed, "noise"))
    rows, rows_test = source.rows or (np.arange(len(source.y_train)), np.arange(len(source.y_test)))
    aside = train[:0]
    if config.train_share < 1:
        train = _fewer(config, "train_share", config.train_share, source.y_train, train, val)
    if config.unlabelled > 0:
        # The labelled ones are those that data.train_share would keep, to show how much the others add.
        labelled = _fewer(config, "unlabelled", 1 - config.unlabelled, source.y_train, train, val)
        train, aside = labelled, np.setdiff1d(train, labelled)
    data = ImageData(
        name=config.name,
        x_train=_images(source.x_train, train),
        y_train=from_numpy(labels[train]),
        x_val=in_memory(_images(source.x_train, val)),
        y_val=from_numpy(labels[val]),
        x_test=in_memory(_images(source.x_test, test)),
        y_test=from_numpy(source.y_test[test]),
        num_classes=num_classes,
        rows_train=rows[train],
        rows_val=rows[val],
        rows_test=rows_test[test],
        numbering=source.numbering,
        available=(len(source.y_train), len(source.y_test)),
        scale=source.scale,
        redrawn=from_numpy(redrawn[train]) if config.label_noise > 0 else None,
        files_train=tuple(source.files[0][i] for i in train) if source.files else None,
        files_val=tuple(source.files[0][i] for i in val) if source.files else None,
        files_test=tuple(source.files[1][i] for i in test) if source.files else None,
        skipped=source.skipped,
        class_names=source.class_names,
        x_extra=in_memory(_images(source.x_train, aside)) if len(aside) else None,
        rows_extra=rows[aside] if len(aside) else None,
    )
    data = biased(data, config.bias, config.bias_share, config.seed)
    if config.exclude:
        data = leave_out(data, Path(config.exclude))
    return data if config.extra is None else _with_extra(data, config.extra)


def _images(x: np.ndarray | StoredImages, rows: np.ndarray) -> AnyImages:
    """Some images of a source; read from their file when asked for, if it is mapped into memory and they are many."""
    if isinstance(x, np.memmap):
        x = StoredImages(x)
    return rows_of(x, rows) if isinstance(x, StoredImages) else from_numpy(x[rows])


def _check_config(config: DataConfig) -> None:
    if config.name not in SOURCES:
        raise InputError(f"data '{config.name}' is unknown; available: {', '.join(SOURCES)}")
    if not 0 <= config.label_noise <= 1:
        raise InputError(f"data.label_noise is {config.label_noise}; it must be a share from 0 to 1")
    if config.seed < 0:
        raise InputError(f"data.seed is {config.seed}; it must be at least 0")
    if not 0 < config.train_share <= 1:
        raise InputError(f"data.train_share is {config.train_share}; it must be a share above 0, at most 1")
    if not 0 <= config.unlabelled < 1:
        raise InputError(f"data.unlabelled is {config.unlabelled}; it must be a share from 0 to below 1")
    if config.extra is not None and config.unlabelled > 0:
        raise InputError("data.extra and data.unlabelled are both given; give only one of them")
    for key in ("train_size", "val_size", "test_size"):
        size = getattr(config, key)
        if size is not None and size < 1:
            raise InputError(f"data.{key} is {size}; it must be at least 1")


def _split(config: DataConfig, source: Arrays) -> tuple[np.ndarray, np.ndarray]:
    labels = source.y_train
    pool, train_size, val_size = len(labels), config.train_size, config.val_size
    if val_size is None:
        val_size = max(1, min(1000, pool // 6 if train_size is None else train_size // 5))
    if train_size is None:
        train_size = max(1, pool - val_size)
    if train_size + val_size > pool:
        raise InputError(
            f"data.train_size={train_size} plus {val_size} for validation (data.val_size) exceed the {pool} "
            f"training images of {config.name}; lower one of them"
        )
    classes = len(np.unique(labels))
    if train_size < classes:
        raise InputError(f"data.train_size={train_size} leaves a class without an image; {config.name} has {classes} classes")
    found, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        name = source.class_name(int(found[counts.argmin()]))
        raise InputError(
            f"{source.where}: class {name} has a single training image, which can't be both trained on and validated with; "
            "it needs at least two"
        )
    val, even = validation_subset(labels, val_size, stream(config.seed, "validation"))
    if not even:
        rarest = int(found[counts.argmin()])
        say_once(
            f"{source.where}: as many validation images of every class would take most of class {source.class_name(rarest)} "
            f"({counts.min()} images); each class gives its share instead, {(labels[val] == rarest).sum()} of that one"
        )
    rest = np.setdiff1d(np.arange(pool), val)
    return rest[balanced_subset(labels[rest], train_size, stream(config.seed, "train"))], val


def _fewer(
    config: DataConfig, key: str, share: float, labels: np.ndarray, train: np.ndarray, val: np.ndarray
) -> np.ndarray:
    """The images that data.train_size would draw, were it that share of the given ones: some of them."""
    kept = round(len(train) * share)
    if kept < len(np.unique(labels)):
        raise InputError(
            f"data.{key}={getattr(config, key)} leaves {kept} of {len(train)} training images for "
            f"{len(np.unique(labels))} classes; leave at least one of each"
        )
    rest = np.setdiff1d(np.arange(len(labels)), val)
    return rest[balanced_subset(labels[rest], kept, stream(config.seed, "train"))]


def _with_extra(data: ImageData, path: str) -> ImageData:
    x, y = read_extra(path, data.image_shape, data.num_classes)
    if x.dtype == np.uint8 and data.x_train.dtype == torch.uint8 and data.scale == 255:
        return dataclasses.replace(data, x_extra=from_numpy(x), y_extra=None if y is None else from_numpy(y))
    # One dtype for all: images stored in other units become float32 in [0, 1], the same values the model gets anyway.
    images: dict[str, Any] = {name: data.images(in_memory(getattr(data, name), 8)) for name in ("x_train", "x_val", "x_test")}
    extra = from_numpy(x).float() / (255 if x.dtype == np.uint8 else 1)
    return dataclasses.replace(data, **images, scale=1.0, x_extra=extra, y_extra=None if y is None else from_numpy(y))


def _take_test(config: DataConfig, labels: np.ndarray) -> np.ndarray:
    size = config.test_size
    if size is None:
        # Every epoch attacks the test images too: thousands of them would cost more than training on a small subset.
        size = len(labels) if config.train_size is None else min(len(labels), max(1000, config.train_size))
    if size > len(labels):
        raise InputError(f"data.test_size={size} exceeds the {len(labels)} test images of {config.name}")
    return balanced_subset(labels, size, stream(config.seed, "test"))
