"""Makes one property of a training set worse on purpose, at a given severity: the share of its images that is changed.

``suite=bias`` uses it to find out which property makes robust overfitting worse on the data at hand. Validation and test images
are not changed. Kinds that remove images leave a smaller set; compare them with ``fewer``, which removes as many at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ro_fast.data.image_data import ImageData
from ro_fast.data.stored_images import in_memory, rows_of
from ro_fast.data.subsets import stream
from ro_fast.errors import InputError

DIMMED = 0.5  # brightness and contrast of a shifted image, as a multiple


def biased(data: ImageData, kind: str, share: float, seed: int) -> ImageData:
    """The data with a share of their training images changed; "none" returns them as they are.

    * ``fewer``: removed at random, the same share of each class.
    * ``imbalance``: removed from half of the classes, which are drawn at random.
    * ``missing_mode``: removed from one end of each class's direction of greatest variance.
    * ``duplicates``: replaced by copies of other images of their class.
    * ``shift``: made half as bright, as by another camera; the test images keep their brightness.
    * ``wrong_labels``: given the label of another class, drawn at random.

    Raises:
        InputError: the kind is unknown, or the share leaves a class without an image.
    """
    if kind == "none":
        return data
    if kind not in KINDS:
        raise InputError(f"data.bias '{kind}' is unknown; there are: none, {', '.join(KINDS)}")
    if not 0 < share < 1:
        raise InputError(f"data.bias_share is {share}; it is a share, above 0 and below 1")
    touched = round(share * len(data.y_train))
    found = KINDS[kind](data, touched, stream(seed, "bias"))
    before, after = (torch.bincount(y, minlength=data.num_classes) for y in (data.y_train, found.y_train))
    if lost := ((before > 0) & (after == 0)).nonzero().flatten().tolist():
        raise InputError(f"data.bias={kind} with data.bias_share={share} leaves class {lost[0]} without a training image")
    return found


def _without(data: ImageData, out: np.ndarray) -> ImageData:
    kept = torch.from_numpy(np.setdiff1d(np.arange(len(data.y_train)), out))
    return _rows(data, kept)


def _rows(data: ImageData, rows: Tensor) -> ImageData:
    return replace(
        _copied(data, rows),
        rows_train=data.rows_train[rows],
        files_train=None if data.files_train is None else tuple(data.files_train[i] for i in rows.tolist()),
    )


def _copied(data: ImageData, rows: Tensor) -> ImageData:
    """The images and labels of other rows, in place of those that keep their numbers and files."""
    return replace(
        data,
        x_train=rows_of(data.x_train, rows),
        y_train=data.y_train[rows],
        redrawn=None if data.redrawn is None else data.redrawn[rows],
    )


def _by_class(data: ImageData) -> list[np.ndarray]:
    labels = data.y_train.numpy()
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _shares(sizes: list[int], total: int) -> list[int]:
    """A total in parts that are as equal shares of the sizes as whole numbers allow."""
    ends = np.round(np.cumsum(sizes) / sum(sizes) * total).astype(int)
    return np.diff(ends, prepend=0).tolist()


def _spread(data: ImageData, touched: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn at random, the same share of each class."""
    members = _by_class(data)
    counts = _shares([len(rows) for rows in members], touched)
    return np.concatenate([rng.permutation(rows)[:count] for rows, count in zip(members, counts, strict=True)])


def _fewer(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    return _without(data, _spread(data, touched, rng))


def _imbalance(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    members = _by_class(data)
    rare = [members[i] for i in rng.permutation(len(members))[: max(1, len(members) // 2)]]
    counts = _shares([len(rows) for rows in rare], touched)
    return _without(data, np.concatenate([rng.permutation(rows)[:count] for rows, count in zip(rare, counts, strict=True)]))


def _missing_mode(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    members, out = _by_class(data), []
    for rows, count in zip(members, _shares([len(rows) for rows in members], touched), strict=True):
        x = data.images(data.x_train[rows]).flatten(1).double()
        x = x - x.mean(0)
        direction = torch.linalg.svd(x, full_matrices=False).Vh[0]
        place = x @ (direction * direction[direction.abs().argmax()].sign())  # which end is "one end" must not be chance
        out.append(rows[place.argsort(descending=True)[:count].numpy()])
    return _without(data, np.concatenate(out))


def _duplicates(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    rows = np.arange(len(data.y_train))
    members = _by_class(data)
    for own, count in zip(members, _shares([len(own) for own in members], touched), strict=True):
        order = rng.permutation(own)
        if count < len(own):
            rows[order[:count]] = rng.choice(order[count:], count)
    return _copied(data, torch.from_numpy(rows))


def _shift(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    rows = torch.from_numpy(_spread(data, touched, rng))
    x = in_memory(data.x_train, 2).clone()
    dimmed = x[rows].double() * DIMMED
    x[rows] = (dimmed if x.is_floating_point() else dimmed.round()).to(x.dtype)
    return replace(data, x_train=x)


def _wrong_labels(data: ImageData, touched: int, rng: np.random.Generator) -> ImageData:
    rows = torch.from_numpy(_spread(data, touched, rng))
    y, redrawn = data.y_train.clone(), torch.zeros(len(data.y_train), dtype=torch.bool)
    y[rows] = (y[rows] + torch.from_numpy(rng.integers(1, data.num_classes, len(rows)))) % data.num_classes
    redrawn[rows] = True
    return replace(data, y_train=y, redrawn=redrawn if data.redrawn is None else redrawn | data.redrawn)


KINDS: dict[str, Callable[[ImageData, int, np.random.Generator], ImageData]] = {
    "fewer": _fewer,
    "imbalance": _imbalance,
    "missing_mode": _missing_mode,
    "duplicates": _duplicates,
    "shift": _shift,
    "wrong_labels": _wrong_labels,
}
