"""``metrics.jsonl`` of a run: a line of numbers an epoch, written and read here alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ro_fast.errors import InputError

# The trainer's columns by name: numbers, and under "features" numbers by layer and kind; what was not measured is absent or None.
Epoch = dict[str, Any]

FILE = "metrics.jsonl"


def read_epochs(path: Path, needed: Sequence[str] = ("epoch",)) -> list[Epoch]:
    """The epochs in a file, in its order.

    Args:
        path: a run's metrics.jsonl.
        needed: columns that every epoch has to have.

    Raises:
        InputError: on a file that is missing or empty, or a line that is no epoch's, with its number and what is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: curves come from it, run the same command again")
    epochs = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path} line {number} is no epoch's metrics ({error}): run the same command again") from error
        reason = _wrong(line, needed)
        if reason is not None:
            raise InputError(f"{path} line {number} is no epoch's metrics ({reason}): run the same command again")
        epochs.append(line)
    if not epochs:
        raise InputError(f"{path} holds no epoch: run the same command again")
    return epochs


def written(epochs: Iterable[Epoch]) -> str:
    """The lines of epochs as the file holds them."""
    return "".join(json.dumps(epoch) + "\n" for epoch in epochs)


def _wrong(line: object, needed: Sequence[str]) -> str | None:
    if not isinstance(line, dict):
        return f"it is {type(line).__name__}; an object of numbers is needed"
    for name, value in line.items():
        if isinstance(value, dict):
            inner = _wrong(value, ())
            if inner is not None:
                return f"{name}: {inner}"
        elif isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
            return f"{name} is {type(value).__name__}; a number is needed"
    missing = [name for name in needed if line.get(name) is None]
    return f"it lacks {', '.join(missing)}" if missing else None
