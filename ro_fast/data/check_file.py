"""What a data check found, read back from its check.json: images to leave out, and how suspect each label is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ro_fast.data.image_data import ImageData
from ro_fast.errors import InputError

EXCLUDED_KINDS = ("label_error", "duplicate", "near_duplicate", "leakage")
EXCLUDED_SEVERITIES = ("warning", "serious")


def read_check(path: Path) -> dict[str, Any]:
    """Return the content of a check.json.

    Raises:
        InputError: the file is missing, or no check's.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for finding in content["findings"]:
            inside = all(0 <= i < content["train_size"] for i in finding["train_indices"])
            if not (inside and {"kind", "severity"} <= finding.keys()):
                raise ValueError("a finding")
        if len(content["label_error_score"]) != content["train_size"] or not isinstance(content["fingerprint"], str):
            raise ValueError("the scores or the fingerprint")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); ro-fast check data=... writes it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a check.json; ro-fast check data=... writes one") from error
    return content


def leave_out(data: ImageData, path: Path) -> ImageData:
    """Return data without the training images that a check of the same data found faulty.

    Left out are the ``train_indices`` of findings of a kind in EXCLUDED_KINDS and a severity in EXCLUDED_SEVERITIES; they
    are rows of ``data.x_train``. Validation and test images stay.

    Raises:
        InputError: the file is no check's, was made on other data, or would take a whole class.
    """
    content = read_check(path)
    if content["fingerprint"] != data.fingerprint():
        raise InputError(
            f"data.exclude={path} was made on other images or labels than data={data.name} gives here; run ro-fast check "
            "with the same data.* values, data.exclude aside"
        )
    out = torch.zeros(len(data.x_train), dtype=torch.bool)
    for finding in content["findings"]:
        if finding["kind"] in EXCLUDED_KINDS and finding["severity"] in EXCLUDED_SEVERITIES:
            out[finding["train_indices"]] = True
    kept = (~out).nonzero().squeeze(1)
    before, after = (torch.bincount(y, minlength=data.num_classes) for y in (data.y_train, data.y_train[kept]))
    if lost := ((before > 0) & (after == 0)).nonzero().flatten().tolist():
        raise InputError(f"data.exclude={path} would leave out every training image of class {lost[0]}; look at its findings")
    return replace(
        data,
        x_train=data.x_train[kept],
        y_train=data.y_train[kept],
        redrawn=None if data.redrawn is None else data.redrawn[kept],
        kept=kept,
        files_train=None if data.files_train is None else tuple(data.files_train[i] for i in kept.tolist()),
    )


def scores(path: Path | str, data: ImageData | None = None) -> Tensor:
    """Return ``label_error_score`` of a check.json: float32, a number in [0, 1] for each training image, larger is more suspect.

    Args:
        path: the check.json.
        data: where given, the scores are those of its training images, in their order, also after data.exclude.

    Raises:
        InputError: the file is no check's, or data without data.exclude is not what was checked.
    """
    content = read_check(Path(path))
    values = torch.tensor(content["label_error_score"], dtype=torch.float32)
    if data is None:
        return values
    if data.kept is not None and int(data.kept[-1]) < len(values):
        return values[data.kept.cpu()]
    if content["fingerprint"] != data.fingerprint():
        raise InputError(f"{path} was made on other images or labels than data={data.name} gives here; run ro-fast check on them")
    return values
