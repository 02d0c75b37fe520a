"""From a list of image files with labels to arrays; obstacles to forming one array are reported with every file concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ro_fast.data.arrays import Arrays
from ro_fast.data.decoding import Reading, decode
from ro_fast.data.notices import say_once
from ro_fast.data.stored_images import StoredImages
from ro_fast.data.subsets import held_out, stream
from ro_fast.errors import InputError

NAMED = 5  # files named in a message; beyond that, only their number is given


@dataclass(frozen=True)
class Item:
    """An image file and its label."""

    path: Path
    name: str  # relative to the data's folder, if it lies there
    label: int
    row: int  # the number that the user knows it by
    content: bytes | None = None  # of the file, if it lies within another one


@dataclass(frozen=True)
class Listing:
    """The files of a data set of images."""

    where: str  # its name in messages
    train: Sequence[Item]
    test: Sequence[Item] | None  # None: to be split from train
    class_names: tuple[str, ...]  # by label
    numbering: str  # what the row of an item is


def read_listing(listing: Listing, skip_bad: bool, seed: int) -> Arrays:
    """Reads all images of a listing, uint8 [N, C, H, W], and splits test images from training's where there are none.

    Args:
        skip_bad: leave out files that cannot be decoded; they are named in a warning.
        seed: of that split.

    Raises:
        InputError: if a part or a class has no image, files cannot be decoded, or images differ in size or colour.
    """
    items = [*listing.train, *(listing.test or ())]
    images, reading = decode([item.path if item.content is None else item.content for item in items], listing.where)
    bad = [(items[place].path, why) for place, why in reading.unreadable]
    if bad and not skip_bad:
        raise InputError(_unreadable(bad))
    if bad:
        say_once(f"skipped {len(bad)} unreadable files of {len(items)}: {', '.join(str(path) for path, _ in bad)}")
    for note, count in reading.notes.items():
        say_once(f"{listing.where}: {note} ({count} {'file' if count == 1 else 'files'})")
    unreadable = {place for place, _ in reading.unreadable}
    read = [item for place, item in enumerate(items) if place not in unreadable]
    to_train = sum(place not in unreadable for place in range(len(listing.train)))
    train, test = np.arange(to_train), np.arange(to_train, len(read))
    _check_classes(listing, read[:to_train])
    if listing.test is None:
        train, test = _split(listing, read, seed)
    elif not len(test):
        raise InputError(f"{listing.where} holds no image to test with")
    _check_sizes(reading, items)

    def taken(rows: np.ndarray) -> tuple[np.ndarray | StoredImages, np.ndarray]:
        labels = np.array([read[i].label for i in rows], dtype=np.int64)
        return images.taken(rows) if isinstance(images, StoredImages) else images[rows], labels

    return Arrays(
        listing.where,
        *taken(train),
        *taken(test),
        files=(tuple(read[i].name for i in train), tuple(read[i].name for i in test)),
        rows=(np.array([read[i].row for i in train]), np.array([read[i].row for i in test])),
        numbering=listing.numbering,
        skipped=tuple(items[place].name for place, _ in reading.unreadable),
        class_names=listing.class_names,
    )


def _check_classes(listing: Listing, train: Sequence[Item]) -> None:
    present = {item.label for item in train}
    if absent := [name for label, name in enumerate(listing.class_names) if label not in present]:
        names = ", ".join(absent[:NAMED]) + (", ..." if absent[NAMED:] else "")
        raise InputError(f"{listing.where}: class {names} contains no image to train on; a class needs at least one")


def _split(listing: Listing, images: Sequence[Item], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of images to train on and of those to test with."""
    labels = np.array([item.label for item in images])
    counts = np.bincount(labels)
    if counts.min() < 3:
        name = listing.class_names[int(counts.argmin())]
        raise InputError(
            f"{listing.where} has no test images, and class {name} has too few to split them off ({counts.min()}); "
            "it needs 3, for training, validation and testing"
        )
    out = held_out(labels, stream(seed, "held_out"))
    say_once(
        f"{listing.where} has no test images: {len(out)} of {len(images)} are set aside to test with, "
        f"a fifth of each class, drawn by data.seed={seed}"
    )
    return np.setdiff1d(np.arange(len(images)), out), out


def _unreadable(bad: list[tuple[Path, str]]) -> str:
    (first, reason), *rest = bad
    more = ""
    if rest:
        names = ", ".join(str(path) for path, _ in rest[: NAMED - 1])
        more = f", nor {'is' if len(rest) == 1 else 'are'} {len(rest)} more: {names}{', ...' if len(rest) >= NAMED else ''}"
    return f"{first} is not an image that can be read ({reason}){more}; repair them or skip them with data.skip_bad=true"


def _check_sizes(reading: Reading, items: Sequence[Item]) -> None:
    if len(reading.sizes) < 2:
        return
    common, other = sorted(reading.sizes, key=lambda size: -size.count)[:2]
    advice = "convert all of them to grey or to RGB" if common.shape[1:] == other.shape[1:] else "resize all of them to one size"
    (a, b) = ("x".join(map(str, size.shape)) for size in (common, other))
    total = sum(size.count for size in reading.sizes)
    among = total if reading.done == len(items) else f"the first {total}"
    raise InputError(
        f"{items[common.first].path} is {a} but {items[other.first].path} is {b} (channels x height x width), and "
        f"{common.count} of {among} images are {a}; all images must agree: {advice}"
    )
