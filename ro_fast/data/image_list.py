"""From a list of image files with labels to arrays; obstacles to forming one array are reported with every file concerned."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ro_fast.data.arrays import Arrays
from ro_fast.data.image_file import Unreadable, read_image
from ro_fast.data.notices import say_once
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
    bad: list[tuple[Path, str]] = []
    notes: Counter[str] = Counter()
    parts = [_read(part, bad, notes) for part in (listing.train, listing.test or ())]
    if bad and not skip_bad:
        raise InputError(_unreadable(bad))
    skipped = {path for path, _ in bad}
    if bad:
        total = len(bad) + sum(map(len, parts))
        say_once(f"skipped {len(bad)} unreadable files of {total}: {', '.join(str(path) for path, _ in bad)}")
    for note, count in notes.items():
        say_once(f"{listing.where}: {note} ({count} {'file' if count == 1 else 'files'})")
    train, test = parts
    _check_classes(listing, train)
    if listing.test is None:
        train, test = _split(listing, train, seed)
    elif not test:
        raise InputError(f"{listing.where} holds no image to test with")
    _check_sizes([(item.path, image.shape) for part in (train, test) for item, image in part])
    return Arrays(
        listing.where,
        *_stacked(train),
        *_stacked(test),
        files=(tuple(item.name for item, _ in train), tuple(item.name for item, _ in test)),
        rows=(np.array([item.row for item, _ in train]), np.array([item.row for item, _ in test])),
        numbering=listing.numbering,
        skipped=tuple(item.name for part in (listing.train, listing.test or ()) for item in part if item.path in skipped),
        class_names=listing.class_names,
    )


def _read(items: Sequence[Item], bad: list[tuple[Path, str]], notes: Counter[str]) -> list[tuple[Item, np.ndarray]]:
    found = []
    for item in items:
        try:
            image, done = read_image(item.path if item.content is None else io.BytesIO(item.content))
        except Unreadable as error:
            bad.append((item.path, str(error)))
        else:
            found.append((item, image))
            notes.update(done)
    return found


def _check_classes(listing: Listing, train: Sequence[tuple[Item, np.ndarray]]) -> None:
    present = {item.label for item, _ in train}
    if absent := [name for label, name in enumerate(listing.class_names) if label not in present]:
        names = ", ".join(absent[:NAMED]) + (", ..." if absent[NAMED:] else "")
        raise InputError(f"{listing.where}: class {names} contains no image to train on; a class needs at least one")


def _split(
    listing: Listing, images: list[tuple[Item, np.ndarray]], seed: int
) -> tuple[list[tuple[Item, np.ndarray]], list[tuple[Item, np.ndarray]]]:
    labels = np.array([item.label for item, _ in images])
    counts = np.bincount(labels)
    if counts.min() < 3:
        name = listing.class_names[int(counts.argmin())]
        raise InputError(
            f"{listing.where} has no test images, and class {name} has too few to split them off ({counts.min()}); "
            "it needs 3, for training, validation and testing"
        )
    out = set(held_out(labels, stream(seed, "held_out")).tolist())
    say_once(
        f"{listing.where} has no test images: {len(out)} of {len(images)} are set aside to test with, "
        f"a fifth of each class, drawn by data.seed={seed}"
    )
    return [images[i] for i in range(len(images)) if i not in out], [images[i] for i in sorted(out)]


def _stacked(images: Sequence[tuple[Item, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([image for _, image in images]), np.array([item.label for item, _ in images], dtype=np.int64)


def _unreadable(bad: list[tuple[Path, str]]) -> str:
    (first, reason), *rest = bad
    more = ""
    if rest:
        names = ", ".join(str(path) for path, _ in rest[: NAMED - 1])
        more = f", nor {'is' if len(rest) == 1 else 'are'} {len(rest)} more: {names}{', ...' if len(rest) >= NAMED else ''}"
    return f"{first} is not an image that can be read ({reason}){more}; repair them or skip them with data.skip_bad=true"


def _check_sizes(shapes: list[tuple[Path, tuple[int, ...]]]) -> None:
    counts: dict[tuple[int, ...], int] = {}
    example: dict[tuple[int, ...], Path] = {}
    for path, shape in shapes:
        counts[shape] = counts.get(shape, 0) + 1
        example.setdefault(shape, path)
    if len(counts) < 2:
        return
    common, other = sorted(counts, key=lambda shape: -counts[shape])[:2]
    advice = "convert all of them to grey or to RGB" if common[1:] == other[1:] else "resize all of them to one size"
    (a, b) = ("x".join(map(str, shape)) for shape in (common, other))
    raise InputError(
        f"{example[common]} is {a} but {example[other]} is {b} (channels x height x width), and {counts[common]} of "
        f"{len(shapes)} images are {a}; all images must agree: {advice}"
    )
