"""check.json: the findings of a data check, the images it would leave out, and how suspect each label is.

Images are named by the numbers that the user knows them by (``ImageData.numbering``), so that the same ones are meant
in whichever part a split puts them. A digest of each image with its label tells whether a number still stands for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ro_fast.config import CheckConfig
from ro_fast.data.image_data import ImageData, Rows
from ro_fast.data.notices import say_once
from ro_fast.data.stored_images import AnyImages, rows_of
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.storage.records import read

VERSION = 2  # of check.json: 2 names images by the user's numbers, 1 by rows of a training split
EXCLUDED_KINDS = ("label_error", "duplicate", "near_duplicate", "leakage")
EXCLUDED_SEVERITIES = ("warning", "serious")


@dataclass(frozen=True)
class Observation:
    """One finding, or something measured and found sound (severity "info")."""

    kind: str
    severity: str
    count: int
    share: float  # count as a share of what was examined, which the message names
    message: str
    advice: str
    train_indices: list[int] = field(default_factory=list)  # the numbers that the user knows the images by
    test_indices: list[int] = field(default_factory=list)
    labels: int = field(default=0, kw_only=True)  # the cost: labels to look at, or to give to new images
    effect: str | None = field(default=None, kw_only=True)  # what it does to robust overfitting, where that was measured
    train_files: list[str] | None = field(default=None, kw_only=True)  # of these images, if they lie in files
    test_files: list[str] | None = field(default=None, kw_only=True)
    train_classes: list[str] | None = field(default=None, kw_only=True)  # by name, if any image is listed
    test_classes: list[str] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class CheckStep:
    """One step of a check."""

    name: str
    looked_at: str
    seconds: float


@dataclass(frozen=True)
class Examined:
    """The images of one part that were examined, and as many as there were."""

    rows: list[int]  # the numbers that the user knows them by
    digests: list[str]  # of each image with its label
    available: int


@dataclass(frozen=True)
class Check:
    """The contents of check.json."""

    version: int
    data: str
    train_size: int  # images examined: those to train on and to validate with
    test_size: int
    validation: list[int]  # numbers of those that the split of these data.* values validates with
    classes: int
    image_shape: list[int]
    compared_as: str
    fingerprint: str  # of the data
    numbering: str  # what the number of an image is
    train: Examined
    test: Examined
    summary: str
    findings: list[Observation]
    label_error_score: list[float]  # of each image in train.rows
    label_accuracy: float  # of the classifiers that flag suspect labels
    two_sample_test: dict[str, float]
    checks: list[CheckStep]
    config: CheckConfig
    environment: Environment
    wall_seconds: float


@dataclass(frozen=True)
class _Versioned:
    version: int = 1


def read_check(path: Path) -> Check:
    """The contents of a check.json.

    Raises:
        InputError: if the file is missing, not a check's, or of another version.
    """
    remedy = "ro-fast check data=... writes a check.json"
    version = read(_Versioned, path, remedy).version
    if version != VERSION:
        raise InputError(
            f"{path} has version {version} but {VERSION} is needed, because images now have the numbers that you know them by: "
            "run the same ro-fast check again"
        )
    found = read(Check, path, remedy)
    for part, size in ((found.train, found.train_size), (found.test, found.test_size)):
        if not len(part.rows) == len(part.digests) == size:
            raise InputError(f"{path}: rows and digests should be {size} each, one for each image; {remedy}")
    rows = set(found.train.rows)
    if any(i not in rows for finding in found.findings for i in finding.train_indices):
        raise InputError(f"{path} names training images that its data don't have; ro-fast check data=... writes a new check.json")
    if len(found.label_error_score) != found.train_size or not all(map(math.isfinite, found.label_error_score)):
        raise InputError(f"{path}: label_error_score should be {found.train_size} finite numbers, one for each training image")
    return found


def excluded(findings: Sequence[Observation]) -> set[int]:
    """The training images that ``data.exclude`` leaves out: those in findings of EXCLUDED_KINDS and EXCLUDED_SEVERITIES."""
    out = [f.train_indices for f in findings if f.kind in EXCLUDED_KINDS and f.severity in EXCLUDED_SEVERITIES]
    return {i for indices in out for i in indices}


def examined(data: ImageData) -> tuple[Examined, Examined]:
    """Numbers and digests of all training and of all test images."""
    ours, theirs = data.available
    return (
        Examined(data.rows_train.tolist(), _digests(data, data.x_train, data.y_train), ours),
        Examined(data.rows_test.tolist(), _digests(data, data.x_test, data.y_test), theirs),
    )


def _digests(data: ImageData, x: AnyImages, y: Tensor) -> list[str]:
    """A short digest of each image with its label, the same however values are stored and on any device."""
    found = []
    for images, labels in zip(x.split(4096), y.split(4096), strict=True):
        values = data.images(images).flatten(1).cpu().numpy()
        for value, label in zip(values, labels.tolist(), strict=True):
            found.append(hashlib.blake2b(value.tobytes() + str(label).encode(), digest_size=4).hexdigest())
    return found


def _unknown(checked: Examined, rows: Rows, digests: list[str], what: str, data: ImageData) -> int:
    """How many images a check did not examine.

    Raises:
        InputError: if one that it did examine is another image now, or has another label.
    """
    then = dict(zip(checked.rows, checked.digests, strict=True))
    now = dict(zip(rows.tolist(), digests, strict=True))
    if changed := [row for row in now if then.get(row, now[row]) != now[row]]:
        raise _of_other_data(what, data, f", such as number {changed[0]} ({data.numbering})")
    return sum(row not in then for row in now)


def _of_other_data(what: str, data: ImageData, told: str = "") -> InputError:
    return InputError(
        f"{what} was made for other images or labels than data={data.name} gives here{told}; run ro-fast check with the same "
        "data.* values, except data.exclude"
    )


def leave_out(data: ImageData, path: Path) -> ImageData:
    """Returns data without the images that a check of the same data found faulty: those listed by :func:`excluded`.

    They are left out of training, of validation and of the images that data.unlabelled sets aside. Test images stay.

    Raises:
        InputError: if the file is not a check's, was made on other images or labels, or would remove all images of a class or
            all that are validated with.
    """
    content = read_check(path)
    what, rows = f"data.exclude={path}", np.concatenate([data.rows_train, data.rows_val])
    digests = _digests(data, data.x_train, data.y_train) + _digests(data, data.x_val, data.y_val)
    if unknown := _unknown(content.train, rows, digests, what, data):
        if unknown == len(rows):
            raise _of_other_data(what, data)
        say_once(f"{what} was made without {unknown} of the {len(rows)} training and validation images here; these stay")
    _unknown(content.test, data.rows_test, _digests(data, data.x_test, data.y_test), what, data)
    out = np.array(sorted(excluded(content.findings)), dtype=np.int64)
    train, val = (np.flatnonzero(~np.isin(rows, out)) for rows in (data.rows_train, data.rows_val))
    before, after = (torch.bincount(y, minlength=data.num_classes) for y in (data.y_train, data.y_train[train]))
    if lost := ((before > 0) & (after == 0)).nonzero().flatten().tolist():
        name = data.class_name(lost[0])
        raise InputError(f"data.exclude={path} would leave out every training image of class {name}; check its findings")
    if not len(val):
        raise InputError(f"data.exclude={path} would leave out every validation image; raise data.val_size")
    gone = (len(data.y_train) - len(train), len(data.y_val) - len(val))
    say_once(f"{what} leaves out {gone[0]} of {len(data.y_train)} training and {gone[1]} of {len(data.y_val)} validation images")
    if data.x_extra is not None and data.rows_extra is not None:
        aside = np.flatnonzero(~np.isin(data.rows_extra, out))
        data = replace(data, x_extra=data.x_extra[aside] if len(aside) else None, rows_extra=data.rows_extra[aside])
    return replace(
        data,
        x_train=rows_of(data.x_train, train),
        y_train=data.y_train[train],
        redrawn=None if data.redrawn is None else data.redrawn[train],
        rows_train=data.rows_train[train],
        files_train=_chosen(data.files_train, train),
        x_val=data.x_val[val],
        y_val=data.y_val[val],
        rows_val=data.rows_val[val],
        files_val=_chosen(data.files_val, val),
    )


def _chosen(files: tuple[str, ...] | None, rows: Rows) -> tuple[str, ...] | None:
    return None if files is None else tuple(files[i] for i in rows)


def scores(path: Path | str, data: ImageData | None = None) -> Tensor:
    """``label_error_score`` of a check.json: float64 [N], larger for more suspect labels.

    Args:
        path: the check.json.
        data: if given, the scores are those of its training images, in their order, whatever their split and data.exclude;
            otherwise those of all images that were checked, in the order of their numbers ``train.rows``.

    Raises:
        InputError: if the file is not a check's, or was made without or with other images or labels than data's.
    """
    content = read_check(Path(path))
    values = torch.tensor(content.label_error_score, dtype=torch.float64)
    if data is None:
        return values
    digests = _digests(data, data.x_train, data.y_train)
    if unknown := _unknown(content.train, data.rows_train, digests, str(path), data):
        raise InputError(f"{path} lacks {unknown} of the training images of data={data.name}; run ro-fast check on all of them")
    place = {row: i for i, row in enumerate(content.train.rows)}
    return values[[place[row] for row in data.rows_train.tolist()]]
