"""Images in folders, one per class; obstacles to forming one array are reported with every file concerned."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ro_fast.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
CHANNELS = {"L": 1, "RGB": 3}
NAMED = 5  # files named in a message; beyond that, only their number is given

log = logging.getLogger("ro_fast")


@dataclass(frozen=True)
class FolderPart:
    """The images below train/ or test/."""

    images: np.ndarray  # [N, C, H, W] uint8
    labels: np.ndarray  # [N] int64, in the order of sorted class names
    files: tuple[str, ...]  # [N] relative to the root
    class_names: tuple[str, ...]  # by label


class _Unreadable(Exception):
    """A file that Pillow cannot decode."""


def read_image_folder(root: Path, skip_bad: bool = False) -> tuple[FolderPart, FolderPart, tuple[str, ...]]:
    """Reads train/<class>/<image> and test/<class>/<image>.

    Args:
        root: the folder containing train/ and test/.
        skip_bad: leave out files that cannot be decoded; they are named in a warning.

    Returns:
        Training part, test part, and the files left out.

    Raises:
        InputError: if a part or class is missing or empty, files cannot be decoded, or images differ in size or colour.
    """
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise InputError(f"{root} has no folder {part}; it must have train/ and test/, each with one folder per class")
    classes = _class_names(root / "train")
    if unknown := sorted(set(_class_names(root / "test")) - set(classes)):
        raise InputError(f"{root / 'test'} has class {unknown[0]}, which {root / 'train'} lacks; it has {', '.join(classes)}")
    found: dict[str, list[tuple[Path, int, np.ndarray]]] = {"train": [], "test": []}
    bad: list[tuple[Path, str]] = []
    for part, images in found.items():
        for label, name in enumerate(classes):
            for path in _image_files(root / part / name):
                try:
                    images.append((path, label, _read_image(path)))
                except _Unreadable as error:
                    bad.append((path, str(error)))
    if bad and not skip_bad:
        raise InputError(_unreadable(bad))
    if bad:
        total = len(bad) + sum(map(len, found.values()))
        log.warning("skipped %d unreadable files of %d: %s", len(bad), total, ", ".join(str(path) for path, _ in bad))
    present = {label for _, label, _ in found["train"]}
    if absent := [name for label, name in enumerate(classes) if label not in present]:
        raise InputError(f"{root / 'train' / absent[0]} contains no image; a class needs at least one")
    for part, images in found.items():
        if not images:
            raise InputError(f"{root / part} holds no image")
    _check_sizes([(path, image.shape) for images in found.values() for path, _, image in images])
    train, test = (_stack(root, images, classes) for images in found.values())
    return train, test, tuple(path.relative_to(root).as_posix() for path, _ in bad)


def _stack(root: Path, images: list[tuple[Path, int, np.ndarray]], classes: list[str]) -> FolderPart:
    return FolderPart(
        np.stack([image for _, _, image in images]),
        np.array([label for _, label, _ in images]),
        tuple(path.relative_to(root).as_posix() for path, _, _ in images),
        tuple(classes),
    )


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


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _read_image(path: Path) -> np.ndarray:  # [C, H, W] uint8
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(f"data=folder needs Pillow: pip install 'ro_fast[train]' ({error})") from error
    try:
        with Image.open(path) as image:
            if image.mode not in CHANNELS:
                raise InputError(f"{path} has Pillow mode {image.mode}; save it as 8-bit grey (L) or RGB")
            return np.asarray(image).reshape(image.height, image.width, CHANNELS[image.mode]).transpose(2, 0, 1)
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise _Unreadable(str(error).split(" '")[0]) from error
