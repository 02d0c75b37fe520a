"""JSON: one object per line with any of the keys, or one object with a list per column, as in keras' history."""

from __future__ import annotations

import json

from ro_fast.errors import InputError
from ro_fast.overfitting.curve_files.table import Row, Table


def read_json_lines(text: str, where: str) -> Table:
    """Reads one object per line; a last line that is cut off, as while a run still writes, is skipped."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    table: Table = []
    for number, line in lines:
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            if table and number == lines[-1][0]:
                continue
            raise InputError(f"{where}, line {number} is not JSON ({error}); each line must be an object") from error
        if not isinstance(cells, dict):
            raise InputError(f"{where}, line {number} is not a JSON object; each line must be one")
        table.append(Row(number, _flat(cells)))
    return table


def read_json(text: str, where: str) -> Table:
    """Reads an object of lists (or of objects, index to value, as pandas writes them), a list of objects, or lines of objects."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return read_json_lines(text, where)
    if isinstance(content, dict) and isinstance(content.get("history"), dict):
        content = content["history"]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return [Row(0, _flat(row)) for row in content]
    columns: dict[str, list[object]] = {}
    for name, values in content.items() if isinstance(content, dict) else ():
        if isinstance(values, (list, dict)):
            columns[name] = values if isinstance(values, list) else list(values.values())
    if not columns:
        raise InputError(f"{where} holds no lists of numbers; an object with one list per column is needed")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{where} has lists of different lengths ({told}); write null at epochs without a value")
    return [Row(0, dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _flat(cells: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested names joined by "/"."""
    found: dict[str, object] = {}
    pending = [(prefix, cells)]
    while pending:
        before, inner = pending.pop()
        for name, value in inner.items():
            if isinstance(value, dict):
                pending.append((f"{before}{name}/", value))
            else:
                found[before + name] = value
    return found
