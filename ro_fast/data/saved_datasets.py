"""Finds images in a folder that Hugging Face's ``datasets`` has written with save_to_disk; only pyarrow is needed to read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ro_fast.data.files import reason
from ro_fast.data.image_csv import LABELS
from ro_fast.data.image_folder import named, train_and_test
from ro_fast.data.image_list import Item, Listing
from ro_fast.errors import InputError
from ro_fast.said import Said

INFO, STATE = "dataset_info.json", "state.json"
NUMBERING = Said("numbering.split", "row of its split, counted from 0")


def is_saved(folder: Path) -> bool:
    """Whether a folder is one of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or ((folder / INFO).is_file() and (folder / STATE).is_file())


def list_saved(folder: Path) -> Listing:
    """Lists the images of the split train, and those of test, else of validation.

    The images are the column of type Image, the labels that of type ClassLabel, or else one with a usual name of labels.

    Raises:
        InputError: if it is no such folder, has not one such column each, or rows without an image or a known label.
    """
    if not is_saved(folder):
        raise InputError(f"{folder} was not written by the save_to_disk of Hugging Face's datasets; it has no {STATE}")
    train, test = train_and_test(folder) if (folder / "dataset_dict.json").is_file() else (folder, None)
    images, labels, names = _columns(train)
    rows = {part: _rows(part, images, labels) for part in (train, test) if part is not None}
    values: Sequence[Any] = range(len(names))
    if not names:
        values = sorted({value for _, value in rows[train]}, key=lambda value: (str(type(value)), value))
    known = {value: label for label, value in enumerate(values)}
    class_names = tuple(names or map(str, values))
    items = {part: [_item(part, i, row, known, class_names) for i, row in enumerate(found)] for part, found in rows.items()}
    return Listing(str(folder), items[train], items[test] if test is not None else None, class_names, NUMBERING)


def _columns(part: Path) -> tuple[str, str, list[str]]:
    """The columns of images and of labels, and the names of the classes if they are recorded."""
    try:
        features = dict(json.loads((part / INFO).read_text(encoding="utf-8"))["features"])
        kinds = {name: feature.get("_type") if isinstance(feature, dict) else None for name, feature in features.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise InputError(f"{part / INFO} does not say which columns there are ({kind}); save the data again") from error
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels = labels or [name for name in kinds if name.lower().replace("_", "") in LABELS]
    for found, what in ((images, "images"), (labels, "labels")):
        if len(found) != 1:
            told = f"{' and '.join(found)} may all be meant" if found else f"the columns are {named(list(kinds)) or 'none'}"
            raise InputError(f"{part} needs one column of {what}: {told}; keep one with remove_columns and save it again")
    return images[0], labels[0], list(features[labels[0]].get("names") or [])


def _rows(part: Path, images: str, labels: str) -> list[tuple[Any, Any]]:
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(f"a folder of Hugging Face's datasets needs pyarrow ({error}): pip install pyarrow") from error
    rows: list[tuple[Any, Any]] = []
    try:
        state = json.loads((part / STATE).read_text(encoding="utf-8"))
        for entry in state["_data_files"]:
            with pyarrow.memory_map(str(part / Path(entry["filename"]).name)) as file:
                table = pyarrow.ipc.open_stream(file).read_all()
            rows += zip(table[images].to_pylist(), table[labels].to_pylist(), strict=True)
    except Exception as error:  # pyarrow has many kinds for damaged files
        raise InputError(f"{part} can't be read as a folder of Hugging Face's datasets: {reason(error)}") from error
    if state.get("_indices_data_files"):
        raise InputError(f"{part} holds a selection of rows beside the data; save it again after flatten_indices()")
    odd = next((i for i, (_, value) in enumerate(rows) if not isinstance(value, str | int)), None)
    if odd is not None:
        raise InputError(f"{part} row {odd}: label {rows[odd][1]} is neither a whole number nor text")
    return rows


def _item(part: Path, i: int, row: tuple[Any, Any], known: dict[Any, int], names: Sequence[str]) -> Item:
    image, value = row
    where = f"{part} row {i}"
    if value not in known:
        raise InputError(f"{where}: label {value} is none of those to train on: {named(names)}")
    content, path = (image.get("bytes"), image.get("path") or "") if isinstance(image, dict) else (None, "")
    if content is None and not Path(path).is_file():
        raise InputError(f"{where} has no image, nor the path of a file that is here")
    return Item(Path(path if content is None else where), f"{part.name}/{i}", known[value], i, content)
