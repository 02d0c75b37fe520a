"""From a table of any kind to a curve: one value per epoch, in order, accuracies as fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ro_fast.errors import InputError
from ro_fast.overfitting.curve_files.columns import EPOCH, STEP, choose, meaning, plain
from ro_fast.overfitting.curve_files.table import Table, is_filled, number
from ro_fast.said import COMMA, SEMICOLON, Said, together


@dataclass
class LearningCurve:
    """A curve's columns, NaN where a value is missing: ``epochs`` [n] and, by name, ``columns`` [n].

    The names are those of :func:`ro_fast.watch`: ``test_robust_acc`` or ``val_robust_acc``, the loss of the same samples, and
    ``train_robust_acc``; accuracies are fractions. ``notes`` say what was assumed in reading it.
    """

    epochs: list[int]
    columns: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def judged(self) -> str:
        """The accuracy column to judge: test, else validation."""
        return "test_robust_acc" if "test_robust_acc" in self.columns else "val_robust_acc"

    @property
    def read_as(self) -> str:
        """What was read and assumed, in one line."""
        return f"read {self.assumed}"

    @property
    def assumed(self) -> str:
        """The notes in one line."""
        return together(self.notes, SEMICOLON)


def to_curve(table: Table, where: str, column: str | None, loss: str | None, train: str | None) -> LearningCurve:
    """Makes a curve of a file's rows.

    Several rows of one epoch are merged: a column's last value counts. Where the epochs of a column go back to one it has
    already, a run was resumed there, and what it had from that epoch on is dropped; other rows are sorted.

    Args:
        table: the rows as they lie.
        where: the file, for messages.
        column: the accuracy to judge, if it is named; likewise ``loss`` and ``train``.

    Raises:
        InputError: if columns are missing or ambiguous, or a value is no number or out of range.
    """
    filled = dict.fromkeys(name for row in table for name, cell in row.cells.items() if is_filled(cell))
    header = list(filled) or list(dict.fromkeys(name for row in table for name in row.cells))
    choice = choose(header, where, column, loss, train)
    roles = {f"{choice.split}_robust_acc": choice.acc}
    roles |= {f"{choice.split}_robust_loss": choice.loss} if choice.loss else {}
    roles |= {"train_robust_acc": choice.train} if choice.train else {}
    # One column may stand for two: column=acc train=acc.
    names = list(dict.fromkeys(roles.values()))
    rows = [[_number(row.cells.get(name), name, row.line, where) for name in names] for row in table]
    read = [
        Said("curve.as", "{name} as {role}", name=name, role=role) if plain(name) != role else role
        for role, name in roles.items()
    ]
    notes: list[str] = [together(read, COMMA)]
    clock, times = _times(table, rows, where, notes)
    series: dict[str, dict[int, float]] = {}
    resumed: set[int] = set()
    merged = False
    for index, name in enumerate(names):
        series[name] = {}
        merged |= _join(series[name], resumed, [(t, row[index]) for t, row in zip(times, rows, strict=True) if t is not None])
    measured = sum(not math.isnan(row[0]) for row in rows)
    if clock == "step" and len(series[choice.acc]) < measured / 2:
        raise InputError(
            f"{where}: {choice.acc} has {measured} values at {len(series[choice.acc])} different steps, which seem to start "
            f"again in each epoch; a column named epoch is needed"
        )
    counts = [t for t in times if t is not None]
    judged = list(series[choice.acc])
    if resumed:
        more = Said("curve.more", " and {n} more", n=len(resumed) - 3) if len(resumed) > 3 else ""
        first = together(map(str, sorted(resumed)[:3]), COMMA)
        told = "resumed at {clock} {first}{more}, where later rows count"
        notes.append(Said("curve.resumed", told, clock=clock, first=first, more=more))
    elif judged != sorted(judged):
        notes.append(Said("curve.sorted", "rows sorted by {clock}", clock=clock))
    if merged:
        notes.append(Said("curve.last", "last value of each {clock} where there are several", clock=clock))
    elif len(set(counts)) < len(counts) and not resumed:
        notes.append(Said("curve.merged", "rows of the same {clock} merged", clock=clock))
    epochs = sorted(set().union(*series.values()) | (set(counts) if clock == "epoch" and not resumed else set()))
    if clock == "step":
        epochs = _at_measurements(series, names[0], notes)
    columns = {role: [series[name].get(epoch, math.nan) for epoch in epochs] for role, name in roles.items()}
    for role, name in roles.items():
        if role.endswith("acc"):
            columns[role] = _fractions(columns[role], name, where, notes)
    return LearningCurve(epochs, columns, [*notes, *choice.notes])


def _number(cell: object, name: str, line: int, where: str) -> float:
    try:
        return number(cell)
    except ValueError:
        at = f", line {line}" if line else ""
        raise InputError(f"{where}{at}: {name} is {str(cell)[:40]!r}; a number is needed") from None


def _times(table: Table, rows: Sequence[Sequence[float]], where: str, notes: list[str]) -> tuple[str, list[int | None]]:
    """What counts, "epoch" or "step", and each row's count; None for a row before the first."""
    header = {plain(name): name for row in table for name, cell in row.cells.items() if is_filled(cell)}
    for kind, names in (("epoch", EPOCH), ("step", STEP)):
        name = next((header[known] for known in names if known in header), None)
        if name is None:
            continue
        counts: list[int | None] = []
        inherited = False
        for row, values in zip(table, rows, strict=True):
            count = _number(row.cells.get(name), name, row.line, where)
            if not math.isnan(count):
                counts.append(_whole(count, name, row.line, where))
            else:  # sparse rows: it belongs to the last that was named
                counts.append(counts[-1] if counts else None)
                inherited |= not all(map(math.isnan, values))
        before = any(count is None and not all(map(math.isnan, values)) for count, values in zip(counts, rows, strict=True))
        if before and kind == "epoch" and any(known in header for known in STEP):
            continue
        if before:
            raise InputError(f"{where}: values come before the first {name}; each row needs its {name}")
        if inherited:
            notes.append(Said("curve.without", "rows without {name} counted to the last one named", name=name))
        if kind == "step":
            notes.append(Said("curve.step", "{name} taken as epoch", name=name))
        return kind, counts
    notes.append(Said("curve.counted", "no epoch column, a new epoch where a value repeats"))
    numbers: list[int | None] = []
    seen: set[int] = set()
    epoch = 0
    for values in rows:
        filled = {index for index, value in enumerate(values) if not math.isnan(value)}
        if filled & seen or not filled:
            epoch, seen = epoch + bool(numbers), set()
        seen |= filled
        numbers.append(epoch)
    return "epoch", numbers


def _whole(value: float, name: str, line: int, where: str) -> int:
    if not (math.isfinite(value) and value == int(value)):
        at = f", line {line}" if line else ""
        raise InputError(f"{where}{at}: {name} is {value:g}; a whole number is needed")
    return int(value)


def _join(found: dict[int, float], resumed: set[int], values: list[tuple[int, float]]) -> bool:
    """Collects a column's values by epoch; whether an epoch had several in a row."""
    merged, last = False, None
    for time, value in values:
        if math.isnan(value):
            continue
        if last is not None and time in found:
            if time < last:
                resumed.add(time)
                for later in [t for t in found if t >= time]:
                    del found[later]
            elif time == last:
                merged = True
        found[time], last = value, time
    return merged


def _at_measurements(series: dict[str, dict[int, float]], acc: str, notes: list[str]) -> list[int]:
    """Steps at which the accuracy was measured; other columns' last values since the measurement before move there."""
    steps = sorted(series[acc])
    for name, values in series.items():
        moved: dict[int, float] = {}
        waiting = iter(sorted(values))
        step = next(waiting, None)
        for measured in steps:
            while step is not None and step <= measured:
                moved[measured] = values[step]
                step = next(waiting, None)
        if moved.keys() - values.keys():
            notes.append(Said("curve.before", "{name} from the last step before each {acc}", name=name, acc=acc))
        series[name] = moved
    return steps


def _fractions(values: list[float], name: str, where: str, notes: list[str]) -> list[float]:
    """Accuracies as fractions, from fractions or percentages of accuracies or errors."""
    if -1 in values:
        notes.append(Said("curve.minus_one", "{name} of -1 taken as not measured", name=name))
        values = [math.nan if value == -1 else value for value in values]
    seen = [value for value in values if not math.isnan(value)]
    top, bottom = max(seen, default=0.0), min(seen, default=0.0)
    if bottom < 0 or top > 100 or 1 < top < 2:
        strange = bottom if bottom < 0 else top
        raise InputError(f"{where}: {name} is {strange:g}; fractions in [0, 1] or percentages up to 100 are needed")
    if top > 1:
        notes.append(Said("curve.percent", "{name} divided by 100", name=name))
        values = [value / 100 for value in values]
    meant = meaning(name)
    if meant is not None and meant.measure == "error":
        notes.append(Said("curve.error", "{name} turned from error into accuracy", name=name))
        values = [1 - value for value in values]
    return values
