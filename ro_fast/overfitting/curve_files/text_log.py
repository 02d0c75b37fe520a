"""Text logs with a table of numbers under a header line, as adversarial training scripts print them.

    [2020/02/01 12:00:00] - Epoch \\t Train Time \\t LR \\t \\t Train Robust Acc \\t Test Robust Loss \\t Test Robust Acc
    [2020/02/01 12:05:00] - 0 \\t 278.0 \\t \\t 0.1000 \\t 0.2412 \\t \\t 1.8510 \\t 0.3101

The output.log of Rice et al.'s code and of what descends from it. The header may come once or before each row.
"""

from __future__ import annotations

import re

from ro_fast.errors import InputError
from ro_fast.overfitting.curve_files.columns import is_clock, meaning
from ro_fast.overfitting.curve_files.table import Row, Table, number


def read_log(text: str, where: str) -> Table:
    """Reads the lines that end in as many numbers as a header line above has names; other lines are skipped.

    The first name is epoch or step. Names are separated by tabs, commas, bars or blanks.
    """
    headers: dict[int, list[str]] = {}  # number of names -> the last such header
    table = []
    for line, words in enumerate(text.splitlines(), 1):
        names = _header(words)
        if names:
            headers[len(names)] = names
        elif headers:
            cells = _tail(re.sub(r"[|,]", " ", words).split())
            if len(cells) in headers:
                table.append(Row(line, dict(zip(headers[len(cells)], cells, strict=True))))
    if not headers:
        wanted = "a .csv, a .jsonl, or a log with a line of names, epoch first, above rows of numbers"
        raise InputError(f"{where} has an unknown format; give {wanted}")
    if not table:
        found = next(iter(headers.values()))
        raise InputError(f"{where} has a header ({', '.join(found)}), but no row of {len(found)} numbers below")
    return table


def _header(line: str) -> list[str]:
    """The names on a header line; [] if it is none."""
    for separator in (r"\t|\s{2,}|[|,]", r"[\s|,]+"):
        cells = [cell.strip() for cell in re.split(separator, line) if cell.strip()]
        if not cells:
            return []
        last = re.split(r"[\s:\]]+", cells[0])[-1]  # after time, level and logger
        cells[0] = last if is_clock(last) else cells[0]
        first = next((index for index, cell in enumerate(cells) if is_clock(cell)), len(cells))
        names = cells[first:]
        if any(map(meaning, names)) and len(set(names)) == len(names) and not any(map(_is_number, names)):
            return names
    return []


def _tail(words: list[str]) -> list[str]:
    """The numbers that a line ends with."""
    count = next((index for index, word in enumerate(reversed(words)) if not _is_number(word)), len(words))
    return words[len(words) - count :]


def _is_number(word: str) -> bool:
    try:
        number(word)
    except ValueError:
        return False
    return word != "-"  # between time and values
