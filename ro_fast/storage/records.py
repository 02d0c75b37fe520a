"""Records on disk: a dataclass defines a JSON file field by field; records are written and read only here.

A field whose default and value are None is not written, so what was not measured takes no room, and fields missing from an
older file are None.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.storage.checkpoint import digest, write_text
from ro_fast.storage.paths import given_file

Record = TypeVar("Record")
DIGEST = "digest"  # the last key of a file or line: of all the others, so that a later change does not pass for a result


def as_json(record: Any) -> Any:
    """A record, or a list or dictionary of records, as JSON values."""
    if dataclasses.is_dataclass(record):
        fields = [(field, getattr(record, field.name)) for field in dataclasses.fields(record)]
        return {field.name: as_json(value) for field, value in fields if value is not None or field.default is not None}
    if isinstance(record, dict):
        return {name: as_json(value) for name, value in record.items()}
    return [as_json(value) for value in record] if isinstance(record, (list, tuple)) else record


def write(path: Path, record: Any, indent: int | None = 1) -> None:
    """Writes a record as a JSON file with its digest, completely or not at all; with ``indent`` None on one line."""
    write_text(path, json.dumps(with_digest(as_json(record)), indent=indent, ensure_ascii=False) + "\n")


def with_digest(value: Any) -> Any:
    """A file's content, a dictionary, with its digest."""
    return {**value, DIGEST: digest(value)}


def verified(value: Any) -> Any:
    """A file's content without its digest; files of older versions have none.

    Raises:
        ValueError: if the content is not that of the digest.
    """
    if not isinstance(value, dict) or DIGEST not in value:
        return value
    content = {name: inner for name, inner in value.items() if name != DIGEST}
    if digest(content) != value[DIGEST]:
        raise ValueError(f"it was changed after it was written; without its key {DIGEST} it is taken as it is")
    return content


def parse(kind: type[Record], value: object) -> Record:
    """The record held by JSON values; unknown names are ignored.

    Raises:
        ValueError: if a field is missing or of another type; gives its place.

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
        raise InputError(f"reading results needs msgspec: {pip_install('train')}") from error
    try:
        return convert(value, kind)
    except ValidationError as error:
        wrong, _, place = str(error).partition(" - at `$")
        wrong = wrong[:1].lower() + wrong[1:]
        raise ValueError(f"{place.strip('.`')}: {wrong}" if place else wrong) from None


@contextlib.contextmanager
def using(path: Path, remedy: str) -> Iterator[None]:
    """Turns names in a record that lead nowhere into one sentence, if its file has no digest, so that anyone may have changed it.

    Raises:
        InputError: in the place of a LookupError.
    """
    try:
        yield
    except LookupError as error:
        if DIGEST in json.loads(path.read_text(encoding="utf-8")):
            raise
        raise InputError(f"{path} names {error}, which does not exist: {remedy}") from error


def read(kind: type[Record], path: Path, remedy: str) -> Record:
    """The record in a JSON file.

    Args:
        kind: its dataclass.
        path: the file.
        remedy: what to do if the file is missing or broken, in the imperative.

    Raises:
        InputError: if the file can't be read, is not JSON, or a field is missing or of another type; names file and field.
    """
    if path.exists():
        given_file(path, str(path))
    try:
        return parse(kind, verified(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise InputError(f"{path} has unexpected contents ({error}): {remedy}") from error
