"""Learning curves from files: CSV, metrics.jsonl, a run's folder, TensorBoard events."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.overfitting.detector import Verdict, watch

EPOCH = ("epoch", "epochs", "step")
# Accepted names of columns; the first match is taken. Compared in lower case, with "/", "-", "." and blanks as "_".
NAMES = {
    "test_robust_acc": (
        "test_robust_acc",
        "test_robust_accuracy",
        "robust_test_acc",
        "test_adv_acc",
        "test_pgd_acc",
        "robust_acc",
    ),
    "val_robust_acc": ("val_robust_acc", "val_robust_accuracy", "robust_val_acc", "val_adv_acc", "val_pgd_acc"),
    "test_robust_loss": ("test_robust_loss", "robust_test_loss", "test_adv_loss", "robust_loss"),
    "val_robust_loss": ("val_robust_loss", "robust_val_loss", "val_adv_loss"),
    "train_robust_acc": ("train_robust_acc", "train_robust_accuracy", "robust_train_acc", "train_adv_acc"),
}


@dataclass
class LearningCurve:
    """A curve's columns, NaN where a value is missing: ``epochs`` [n] and, by the names of :data:`NAMES`, ``columns`` [n]."""

    epochs: list[int]
    columns: dict[str, list[float]] = field(default_factory=dict)

    def judged(self, column: str | None = None) -> str:
        """The accuracy column to judge: the one requested, else test, else validation."""
        return column or ("test_robust_acc" if "test_robust_acc" in self.columns else "val_robust_acc")


def read_curve(path: str | Path, column: str | None = None) -> LearningCurve:
    """Reads a learning curve.

    Args:
        path: a ``.csv`` with a header, a ``.jsonl`` with one line per epoch, a run's folder, or a TensorBoard event file.
        column: the accuracy to judge, by its name in the file; it becomes ``test_robust_acc``. None: found by the usual names.

    Raises:
        InputError: if the file is missing or unreadable, or has no known column; the message lists those it has.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"curve={path} does not exist; give a .csv, a .jsonl, a run's folder or a TensorBoard event file")
    if path.is_dir():
        path = _in_folder(path)
    try:
        if path.suffix.lower() == ".csv":
            table = _csv(path)
        elif path.suffix.lower() == ".jsonl":
            table = _jsonl(path)
        elif "tfevents" in path.name:
            table = _tensorboard(path)
        else:
            raise InputError(f"curve={path} has an unknown format; give a .csv, a .jsonl, a run's folder or a *tfevents* file")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"curve={path} can't be read ({error})") from error
    return _curve(table, path, column)


def watch_curve(curve: LearningCurve) -> Verdict:
    """:func:`ro_fast.watch` on a curve read from a file."""
    return watch(**curve.columns, epochs=curve.epochs)


def _in_folder(folder: Path) -> Path:
    metrics = folder / "metrics.jsonl"
    if metrics.exists():
        return metrics
    events = sorted(folder.glob("*tfevents*"))
    if len(events) != 1:
        raise InputError(
            f"curve={folder} holds no metrics.jsonl and {len(events)} TensorBoard event files; name the intended file"
        )
    return events[0]


Table = list[dict[str, float]]  # one row per epoch; a column that was not measured is NaN or missing


def _csv(path: Path) -> Table:
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        names = rows.fieldnames or []
        if len(names) == 1 and ";" in names[0]:
            raise InputError(f"curve={path} separates values by semicolons; use commas, and points in numbers")
        return [_row(row, f"curve={path}, line {line}") for line, row in enumerate(rows, 2)]


def _jsonl(path: Path) -> Table:
    table = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                continue  # a run that is still writing
            raise InputError(f"curve={path}, line {number} is not JSON ({error}); each line must be an epoch") from error
        if not isinstance(row, dict):
            raise InputError(f"curve={path}, line {number} is not a JSON object; each line must be an epoch")
        table.append(_row(row, f"curve={path}, line {number}"))
    return table


def _tensorboard(path: Path) -> Table:
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise InputError(f"curve={path} is a TensorBoard event file; reading it needs: pip install tensorboard") from error
    events = EventAccumulator(str(path), size_guidance={SCALARS: 0, TENSORS: 0})
    events.Reload()
    rows: dict[int, dict[str, float]] = {}
    for tag in events.Tags()[SCALARS]:
        for event in events.Scalars(tag):
            rows.setdefault(event.step, {})[tag] = float(event.value)
    for tag in events.Tags()[TENSORS]:  # scalars as stored by newer writers
        for event in events.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                rows.setdefault(event.step, {})[tag] = float(value.reshape(()))
    tags = {tag for row in rows.values() for tag in row}
    return [{"step": step, **dict.fromkeys(tags, math.nan), **rows[step]} for step in sorted(rows)]


def _row(row: Mapping[str | None, object], where: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, text in row.items():
        if name is None:
            raise InputError(f"{where} has more values than the header has names")
        known = _plain(name) in EPOCH or any(_plain(name) in names for names in NAMES.values())
        try:
            values[name] = math.nan if text is None or str(text).strip() == "" else float(str(text))
        except ValueError:
            values[name] = math.nan
            if known:
                raise InputError(f"{where}: {name} is {text!r}; a number is needed") from None
    return values


def _curve(table: Table, path: Path, column: str | None) -> LearningCurve:
    if not table:
        raise InputError(f"curve={path} is empty; a header and one row per epoch are needed")
    header = list(table[0])
    found = {}
    for wanted, names in NAMES.items():
        name = _first(header, names)
        if name is not None:
            found[wanted] = name
    if column is not None:
        if column not in header:
            raise InputError(f"curve={path} has no column '{column}'; available: {', '.join(header)}")
        # Only values that belong to the judged column may be evidence for it.
        other = "val" if "val" in _plain(column) else "test"
        loss = found.get(f"{other}_robust_loss")
        found = {k: v for k, v in found.items() if k == "train_robust_acc"} | {"test_robust_acc": column}
        found |= {"test_robust_loss": loss} if loss else {}
    if not {"test_robust_acc", "val_robust_acc"} & set(found):
        raise InputError(
            f"curve={path} has the columns {', '.join(header)}; "
            f"test_robust_acc or val_robust_acc is needed, or column=NAME to name the robust accuracy"
        )
    clock = _first(header, EPOCH)
    epochs = [index if clock is None else _whole(row.get(clock, math.nan), path, clock) for index, row in enumerate(table)]
    return LearningCurve(epochs, {wanted: [row.get(name, math.nan) for row in table] for wanted, name in found.items()})


def _whole(value: float, path: Path, name: str) -> int:
    if not (math.isfinite(value) and value == int(value)):
        raise InputError(f"curve={path}: {name} is {value:g}; a whole number is needed")
    return int(value)


def _first(header: Iterable[str], names: Iterable[str]) -> str | None:
    plain = {_plain(name): name for name in header}
    return next((plain[name] for name in names if name in plain), None)


def _plain(name: str) -> str:
    return "".join("_" if c in "/-. " else c for c in name.strip().lower())
