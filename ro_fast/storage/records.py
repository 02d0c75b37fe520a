"""Records on disk: a dataclass says what a JSON file holds, field by field; it is written and read here alone.

A field that is None by default and None is not written, so that what was not measured takes no room, and what an older file
lacks is None.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from ro_fast.errors import InputError
from ro_fast.storage.checkpoint import write_text

Record = TypeVar("Record")


def as_json(record: Any) -> Any:
    """A record, or a list or dictionary of them, as values that JSON has."""
    if dataclasses.is_dataclass(record):
        fields = [(field, getattr(record, field.name)) for field in dataclasses.fields(record)]
        return {field.name: as_json(value) for field, value in fields if value is not None or field.default is not None}
    if isinstance(record, dict):
        return {name: as_json(value) for name, value in record.items()}
    return [as_json(value) for value in record] if isinstance(record, (list, tuple)) else record


def write(path: Path, record: Any, indent: int | None = 1) -> None:
    """Writes a record as a JSON file, whole or not at all; with ``indent`` None in one line."""
    write_text(path, json.dumps(as_json(record), indent=indent, ensure_ascii=False) + "\n")


def parse(kind: type[Record], value: object) -> Record:
    """The record that some values of JSON hold; names that it does not know are passed over.

    Raises:
        ValueError: a field is missing or of another type, with its place.

    >>> @dataclasses.dataclass
    ... class Point:
    ...     x: float
    >>> parse(Point, {"x": 1})
    Point(x=1.0)
    >>> parse(Point, {"x": "1"})
    Traceback (most recent call last):
    ValueError: x: expected `float`, got `str`
    """
    try:
        from msgspec import ValidationError, convert
    except ImportError as error:
        raise InputError("reading results needs msgspec: pip install 'ro_fast[train]'") from error
    try:
        return convert(value, kind)
    except ValidationError as error:
        wrong, _, place = str(error).partition(" - at `$")
        wrong = wrong[:1].lower() + wrong[1:]
        raise ValueError(f"{place.strip('.`')}: {wrong}" if place else wrong) from None


def read(kind: type[Record], path: Path, remedy: str) -> Record:
    """The record in a JSON file.

    Args:
        kind: its dataclass.
        path: the file.
        remedy: what to do where the file is missing or broken, as an order.

    Raises:
        InputError: the file can't be read, is no JSON, or a field is missing or of another type: which file, which field.
    """
    try:
        return parse(kind, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError too
        raise InputError(f"{path} has unexpected contents ({error}): {remedy}") from error
