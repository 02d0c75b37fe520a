"""CSV with a header: written by hand, by loggers of Lightning and keras, or exported by wandb."""

from __future__ import annotations

import csv

from ro_fast.errors import InputError
from ro_fast.overfitting.curve_files.table import Row, Table


def read_csv(text: str, where: str) -> Table:
    """Reads values separated by commas or tabs; a header that is repeated, as when a run appends to its file, is skipped."""
    first = text.lstrip().partition("\n")[0]
    if ";" in first and "," not in first:
        raise InputError(f"{where} separates values by semicolons; use commas, and points in numbers")
    lines = csv.reader(text.splitlines(), delimiter="\t" if "\t" in first and "," not in first else ",", skipinitialspace=True)
    try:
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{where}, line {lines.line_num} is not CSV ({error})") from error
    header = rows[0][1] if rows else []
    names = [name for name in header if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where} has more than one column named {', '.join(twice)}; give each its own name")
    table = []
    for line, row in rows[1:]:
        if row == header:
            continue
        if any(row[len(header) :]):
            raise InputError(f"{where}, line {line} has more values than the header has names")
        table.append(Row(line, {name: cell for name, cell in zip(header, row, strict=False) if name}))
    if not table:
        raise InputError(f"{where} is a header without rows ({', '.join(names)}); one row per epoch is needed")
    return table
