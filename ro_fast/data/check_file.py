"""check.json: the findings of a data check, the images it would leave out, and how suspect each label is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ro_fast.config import CheckConfig
from ro_fast.data.image_data import ImageData
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.storage.records import read

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
    train_indices: list[int] = field(default_factory=list)  # rows of ImageData.x_train
    test_indices: list[int] = field(default_factory=list)
    train_files: list[str] | None = field(default=None, kw_only=True)  # of these rows, if images lie in files
    test_files: list[str] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class CheckStep:
    """One step of a check."""

    name: str
    looked_at: str
    seconds: float


@dataclass(frozen=True)
class Check:
    """The contents of check.json."""

    data: str
    train_size: int
    test_size: int
    classes: int
    image_shape: list[int]
    compared_as: str
    fingerprint: str  # of the data
    summary: str
    findings: list[Observation]
    label_error_score: list[float]  # per training image
    label_accuracy: float  # of the classifiers that flag suspect labels
    two_sample_test: dict[str, float]
    checks: list[CheckStep]
    config: CheckConfig
    environment: Environment
    wall_seconds: float


def read_check(path: Path) -> Check:
    """The contents of a check.json.

    Raises:
        InputError: if the file is missing, or not a check's.
    """
    found = read(Check, path, "ro-fast check data=... writes a check.json")
    if any(not 0 <= i < found.train_size for finding in found.findings for i in finding.train_indices):
        raise InputError(f"{path} names training images that its data don't have; ro-fast check data=... writes a new check.json")
    if len(found.label_error_score) != found.train_size or not all(map(math.isfinite, found.label_error_score)):
        raise InputError(f"{path}: label_error_score should be {found.train_size} finite numbers, one for each training image")
    return found


def excluded(findings: Sequence[Observation]) -> set[int]:
    """The training images that ``data.exclude`` leaves out: those in findings of EXCLUDED_KINDS and EXCLUDED_SEVERITIES."""
    out = [f.train_indices for f in findings if f.kind in EXCLUDED_KINDS and f.severity in EXCLUDED_SEVERITIES]
    return {i for indices in out for i in indices}


def leave_out(data: ImageData, path: Path) -> ImageData:
    """Returns data without the training images that a check of the same data found faulty.

    Left out are the rows of ``data.x_train`` listed by :func:`excluded`. Validation and test images stay.

    Raises:
        InputError: if the file is not a check's, was made on other data, or would remove a whole class.
    """
    content = read_check(path)
    if content.fingerprint != data.fingerprint():
        raise InputError(
            f"data.exclude={path} was made for other images or labels than data={data.name} gives here; run ro-fast check "
            "with the same data.* values, except data.exclude"
        )
    out = torch.zeros(len(data.x_train), dtype=torch.bool)
    out[sorted(excluded(content.findings))] = True
    kept = (~out).nonzero().squeeze(1)
    before, after = (torch.bincount(y, minlength=data.num_classes) for y in (data.y_train, data.y_train[kept]))
    if lost := ((before > 0) & (after == 0)).nonzero().flatten().tolist():
        raise InputError(f"data.exclude={path} would leave out every training image of class {lost[0]}; check its findings")
    return replace(
        data,
        x_train=data.x_train[kept],
        y_train=data.y_train[kept],
        redrawn=None if data.redrawn is None else data.redrawn[kept],
        kept=kept,
        files_train=None if data.files_train is None else tuple(data.files_train[i] for i in kept.tolist()),
    )


def scores(path: Path | str, data: ImageData | None = None) -> Tensor:
    """``label_error_score`` of a check.json: float64 [N] in [0, 1], larger for more suspect labels.

    Args:
        path: the check.json.
        data: if given, the scores are those of its training images, in their order, also after data.exclude.

    Raises:
        InputError: if the file is not a check's, or data without data.exclude is not what was checked.
    """
    content = read_check(Path(path))
    values = torch.tensor(content.label_error_score, dtype=torch.float64)
    if data is None:
        return values
    if data.kept is not None and int(data.kept[-1]) < len(values):
        return values[data.kept.cpu()]
    if content.fingerprint != data.fingerprint():
        raise InputError(
            f"{path} was made for other images or labels than data={data.name} gives here; run ro-fast check on the same data"
        )
    return values
