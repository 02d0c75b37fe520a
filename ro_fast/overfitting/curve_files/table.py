"""A file's rows as they lie, before anyone knows what its columns mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ro_fast.errors import InputError

_MISSING = {"", "-", "none", "null", "n/a", "na"}


@dataclass(frozen=True)
class Row:
    """One line or logged step: some of the columns, each with its text or number."""

    line: int  # in the file, for messages; 0: the file has no lines
    cells: dict[str, object]


Table = list[Row]


def text_of(path: Path) -> str:
    """A text file's content.

    Raises:
        InputError: if it is empty, or not text in UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"curve={path} is not text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    if not text.strip():
        raise InputError(f"curve={path} is empty; a header and one row per epoch are needed")
    if "\0" in text:
        raise InputError(f"curve={path} is a binary file; a table of text is needed")
    return text


def number(cell: object) -> float:
    """A cell as a number: NaN if it is empty, 45 for "45 %".

    Raises:
        ValueError: if it is something else.
    """
    if isinstance(cell, str):
        cell = cell.strip()
        return math.nan if cell.lower() in _MISSING else float(cell.removesuffix("%"))
    if cell is None:
        return math.nan
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError as error:
            raise ValueError(f"{cell!r:.20} is too large") from error
    raise ValueError(f"{cell!r} is not a number")


def is_filled(cell: object) -> bool:
    """Whether a cell holds anything, be it a number or not."""
    try:
        return not math.isnan(number(cell))
    except ValueError:
        return True
