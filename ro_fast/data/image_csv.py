"""Finds images by a CSV of paths and labels, with its columns under their usual names."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from ro_fast.data.image_folder import TEST, TRAIN, VALIDATION, named
from ro_fast.data.image_list import NAMED, Item, Listing
from ro_fast.data.notices import say_once
from ro_fast.errors import InputError
from ro_fast.said import Said

PATHS = ("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "img", "imgpath")
LABELS = ("label", "class", "target", "category", "classname", "labelname")
NUMBERING = Said("numbering.csv", "line of the CSV file, of which the header is line 1")
SPLITS = ("split", "subset", "partition", "set")


def list_csv(file: Path) -> Listing:
    """Lists the images of a file with a header, separated by commas, semicolons or tabs.

    A column holds paths, relative to the file's folder, one labels, and one may hold ``train``, ``val`` or ``test``. Classes are
    sorted, as numbers if all are whole numbers. Test images are those of ``test``, else of ``val``; without both they are split
    off later.

    Raises:
        InputError: names the line or column at fault and what would be right.
    """
    rows, path_column, label_column, split_column = _rows(file)
    parts = [_part(row[split_column], f"{file} line {line}") if split_column else "train" for line, row in rows]
    texts = [row[label_column] for _, row in rows]
    for (line, row), text in zip(rows, texts, strict=True):
        if not text or not row[path_column]:
            empty = path_column if text else label_column
            raise InputError(f"{file} line {line}: {empty} is empty; every image needs a path and a label")
    if "train" not in parts:
        raise InputError(f"{file}: no row's {split_column} is train; there must be images to train on")
    tested = next((part for part in ("test", "validation") if part in parts), None)
    values: Sequence[str | int] = _whole_numbers(texts) or texts
    classes = sorted({value for value, part in zip(values, parts, strict=True) if part == "train"})
    names = tuple(map(str, classes))
    labels = {value: label for label, value in enumerate(classes)}
    items: dict[str, list[Item]] = {"train": [], "test": [], "validation": []}
    missing: list[tuple[int, str]] = []
    for (line, row), value, part in zip(rows, values, parts, strict=True):
        if part not in ("train", tested):
            continue
        if value not in labels:
            raise InputError(f"{file} line {line}: class {value} has no image to train on; those that have are {named(names)}")
        path = _located(file.parent, row[path_column])
        if not path.is_file():
            missing.append((line, row[path_column]))
        items[part].append(Item(path, row[path_column], labels[value], line))
    if missing:
        raise InputError(_missing(file, missing))
    if tested == "validation":
        say_once(f"{file} has no test images: those of validation are tested with")
    elif ignored := parts.count("validation"):
        say_once(f"{file}: {ignored} validation images are not read; validation images are taken from train")
    return Listing(str(file), items["train"], items[tested] if tested else None, names, NUMBERING)


def _rows(file: Path) -> tuple[list[tuple[int, dict[str, str]]], str, str, str | None]:
    """The rows with their line numbers, and the columns of paths, labels and splits."""
    if not file.is_file():
        raise InputError(f"{file} is not a file; it must be a .csv file with columns such as path and label")
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            header = text.readline()
            separator = max(",;\t", key=header.count)
            columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
            path, label = (_column(file, columns, names, what) for names, what in ((PATHS, "paths"), (LABELS, "labels")))
            if path is None or label is None:
                what, names = ("paths", PATHS) if path is None else ("labels", LABELS)
                told = f"{file} has no column of {what}; its columns are {named(columns) or 'none'}"
                raise InputError(f"{told}; name one of them {' or '.join(names[:3])}")
            split = _column(file, columns, SPLITS, "splits")
            rows = []
            reader = csv.reader(text, delimiter=separator)
            for cells in reader:
                if not any(cells):
                    continue
                line = reader.line_num + 1
                if len(cells) != len(columns):
                    raise InputError(f"{file} line {line} has {len(cells)} cells beside {len(columns)} columns; mend the line")
                rows.append((line, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}))
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{file} is not a CSV file: {error}") from error
    if not rows:
        raise InputError(f"{file} has no row below its header; it needs one for each image")
    return rows, path, label, split


def _column(file: Path, columns: list[str], names: tuple[str, ...], what: str) -> str | None:
    found = [name for name in columns if name.lower().replace("_", "").replace(" ", "") in names]
    if found[1:]:
        raise InputError(f"{file}: {' and '.join(found)} may both be the column of {what}; rename or remove all but one")
    return found[0] if found else None


def _part(text: str, where: str) -> str:
    for part, names in (("train", TRAIN), ("test", TEST), ("validation", VALIDATION)):
        if text.lower() in names:
            return part
    raise InputError(f"{where}: the split is {text or 'empty'}; it must be train, val or test")


def _whole_numbers(texts: list[str]) -> list[int]:
    """The labels as numbers; empty unless all are whole."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return []
    return [int(number) for number in numbers] if all(math.isfinite(n) and n == int(n) for n in numbers) else []


def _located(folder: Path, name: str) -> Path:
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _missing(file: Path, missing: list[tuple[int, str]]) -> str:
    (line, name), *rest = missing
    more = ""
    if rest:
        lines = ", ".join(str(line) for line, _ in rest[:NAMED]) + (", ..." if rest[NAMED:] else "")
        more = f", nor are {len(rest)} more (lines {lines})" if rest[1:] else f", nor is that of line {lines}"
    return f"{file} line {line}: {name} is not a file in {file.parent}{more}; paths are relative to the CSV's folder"
