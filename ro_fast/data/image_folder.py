"""Finds images in folders, one folder per class, below train/ and a test folder, and says what it leaves out."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ro_fast.data.image_file import suffixes
from ro_fast.data.image_list import NAMED, Item, Listing
from ro_fast.data.notices import say_once
from ro_fast.errors import InputError
from ro_fast.said import Said

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")
NUMBERING = Said(
    "numbering.folder",
    "place among the image files sorted by class and path, counted from 0 in each part; the file's name tells more",
)
_HIDDEN = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # and whatever begins with a dot
_SILENT = 5.0  # seconds without a word while files are looked for
_log = logging.getLogger("ro_fast")
_LAYOUT = "it must have train/ and test/, each with one folder per class"


def list_folder(root: Path) -> Listing:
    """Lists train/<class>/<image> and test/<class>/<image>, also in sub-folders of a class.

    Tested with are the images of ``test``, else of ``val``, ``valid`` or ``validation``. Without such a folder, or if the class
    folders lie in the root, test images are split off later. Hidden files are ignored; others that are left out are counted by
    kind in one line.

    Raises:
        InputError: if there is no train folder and no class folder, several folders may be meant, or the test folder has classes
            that train lacks.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; {_LAYOUT}")
    train, test = train_and_test(root)
    classes = _classes(train)
    if not classes:
        raise InputError(f"{train} has no folder of a class; {_LAYOUT}")
    if test is not None:
        _check_known(train, classes, test)
    left_out: Counter[str] = Counter()
    items, tested = (_items(root, part, classes, left_out) for part in (train, test))
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common())
        say_once(f"{root}: files left out: {kinds}")
    every = [*items, *tested]
    if nested := sum(item.name.count("/") > (1 if train == root else 2) for item in every):
        say_once(f"{root}: images in sub-folders of a class's folder count for that class: {nested} of {len(every)}")
    if test is None:
        return Listing(str(root), items, None, tuple(classes), NUMBERING)
    if lacking := sorted(set(range(len(classes))) - {item.label for item in tested}):
        say_once(f"{test} has no image of {named([classes[label] for label in lacking])}, which is not tested")
    return Listing(str(root), items, tested, tuple(classes), NUMBERING)


def train_and_test(root: Path) -> tuple[Path, Path | None]:
    """The folders to train on and to test with, and says what that assumes; None: there is none to test with."""
    folders = folders_in(root)

    def the_one(names: tuple[str, ...]) -> Path | None:
        found = [folder for folder in folders if folder.name.lower() in names]
        if found[1:]:
            raise InputError(f"{root} has {' and '.join(f.name for f in found)}, which may mean the same; keep one of them")
        return found[0] if found else None

    train, test, validation = the_one(TRAIN), the_one(TEST), the_one(VALIDATION)
    if train is not None:
        if test is None and validation is not None:
            say_once(f"{root} has no folder test: the images of {validation.name} are tested with")
        used = {train, test or validation}
        if ignored := [folder.name for folder in folders if folder not in used]:
            why = "; validation images are taken from train" if validation is not None and validation not in used else ""
            say_once(f"{root}: not read: {', '.join(ignored)}{why}")
        return train, test or validation
    if found := test or validation:
        raise InputError(f"{root} has no folder train beside {found.name}; {_LAYOUT}")
    if inner := [folder for folder in folders if any(f.name.lower() in TRAIN for f in folders_in(folder))]:
        raise InputError(f"{root} has no folder train, but {inner[0].name} has; give data.path={inner[0]}")
    if sum(map(images_below, folders)) < 2:
        raise InputError(f"{root} has no folder train and no two folders with images; {_LAYOUT}")
    return root, None


def _check_known(train: Path, classes: list[str], test: Path) -> None:
    """Raises InputError unless the classes of the test folder are among those to train on."""
    tested = _classes(test)
    if not tested:
        raise InputError(f"{test} has no folder of a class, so its images have no labels; it needs one folder per class")
    if unknown := sorted(set(tested) - set(classes)):
        noun = "class" if len(unknown) == 1 else "classes"
        raise InputError(f"{test} has {noun} {named(unknown)}, which {train} lacks; it has {named(classes)}")


def _items(root: Path, part: Path | None, classes: list[str], left_out: Counter[str]) -> list[Item]:
    """The images below a part's class folders; counts what is left out."""
    if part is None:
        return []
    items: list[Item] = []
    told = time.monotonic()
    for label, name in enumerate(classes):
        if time.monotonic() - told > _SILENT:
            told = time.monotonic()
            _log.info("%s: %d files found so far, in %d of %d classes", part, len(items), label, len(classes))
        folder = part / name
        prefix, inside = folder.relative_to(root).as_posix(), len(str(folder))
        # By the parts of its path, since "a/1.png" is not to come between "a-b/1.png" and "a.png".
        for entry in sorted(_files(folder), key=lambda entry: entry.path.split(os.sep)) if folder.is_dir() else ():
            if not _is(entry.is_file):
                left_out["that are no regular file or a link to nothing"] += 1
            elif _suffix(entry) in suffixes():
                items.append(Item(Path(entry.path), prefix + entry.path[inside:].replace(os.sep, "/"), label, len(items)))
            else:
                left_out[f"{_suffix(entry) or 'without an ending'} (not an image that Pillow reads)"] += 1
    loose = [path for path in part.iterdir() if not _hidden(path.name) and not path.is_dir()]
    if part == root:  # where notes about the data may lie too
        loose = [path for path in loose if path.suffix.lower() in suffixes()]
    if loose:
        left_out[f"in {part.name}, in no class folder"] += len(loose)
    return items


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterable[os.DirEntry[str]]:
    """All that is not a folder below a folder, without what is hidden."""
    real = folder.resolve()
    if real in above:
        raise InputError(f"{folder} is a link to a folder above it; remove it")
    with os.scandir(folder) as entries:  # many times faster than pathlib, which matters to a million files
        for entry in entries:
            if _hidden(entry.name):
                continue
            if _is(entry.is_dir):
                yield from _files(Path(entry.path), (*above, real))
            else:
                yield entry


def _is(kind: Callable[[], bool]) -> bool:
    """False for a link that leads to itself, too, as pathlib has it."""
    try:
        return kind()
    except OSError:
        return False


def _suffix(entry: os.DirEntry[str]) -> str:
    return os.path.splitext(entry.name)[1].lower()


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))


def images_below(folder: Path) -> bool:
    """Whether a folder or one below it has a file that is named as an image."""
    return any(_suffix(entry) in suffixes() for entry in _files(folder))


def _classes(folder: Path) -> list[str]:
    return [path.name for path in folders_in(folder)]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def named(names: Sequence[str]) -> str:
    """Names in a message: the first few, and how many there are if there are more."""
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)} in all)" if names[NAMED:] else "")
