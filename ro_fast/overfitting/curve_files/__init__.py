"""Learning curves from files, as training scripts and loggers leave them: one module per kind of file.

Each reader returns a :data:`table.Table`, its rows as they lie. ``columns`` finds out which columns are meant by their names, and
``curve`` makes a curve of them: rows merged into epochs, resumed runs joined, percentages and error rates turned into fractions.
"""

from __future__ import annotations

from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.overfitting.curve_files.csv_file import read_csv
from ro_fast.overfitting.curve_files.curve import LearningCurve, to_curve
from ro_fast.overfitting.curve_files.json_file import read_json, read_json_lines
from ro_fast.overfitting.curve_files.table import text_of
from ro_fast.overfitting.curve_files.tensorboard_events import find_events, read_events
from ro_fast.overfitting.curve_files.text_log import read_log
from ro_fast.overfitting.detector import Verdict, watch
from ro_fast.storage.paths import given_file

__all__ = ["LearningCurve", "read_curve", "watch_curve"]

READERS = {
    ".csv": read_csv,  # CSV loggers of Lightning, keras and wandb
    ".tsv": read_csv,
    ".json": read_json,  # keras' history
    ".jsonl": read_json_lines,  # metrics.jsonl of a run, wandb's history
    ".ndjson": read_json_lines,
}  # any other file is read as a text log: a header line, and rows of numbers below


def read_curve(
    path: str | Path, column: str | None = None, *, loss: str | None = None, train: str | None = None
) -> LearningCurve:
    """Reads a learning curve.

    Args:
        path: a ``.csv`` or ``.tsv`` with a header, a ``.jsonl``, a ``.json`` of lists, a text log with a table of numbers, a
            TensorBoard event file, or a folder with metrics.jsonl, metrics.csv or event files (sub-folders included).
        column: the accuracy to judge, by its name in the file; it becomes ``test_robust_acc``. None: found by its name.
        loss: the column of the robust loss on the same samples. None: found by its name.
        train: the column of robust train accuracy. None: found by its name.

    Raises:
        InputError: if the file is missing or unreadable, or has no or several columns that may be meant; the message lists them.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = next((path / name for name in ("metrics.jsonl", "metrics.csv") if (path / name).exists()), path)
        elif not path.exists():
            kinds = f"a {', '.join(READERS)}, a text log, a TensorBoard event file or a folder with one of them"
            raise InputError(f"curve={path} does not exist; give {kinds}")
        if not path.is_dir():
            given_file(path, f"curve={path}")
        if path.is_dir() or "tfevents" in path.name:
            table = read_events(path, find_events(path))
        else:
            table = READERS.get(path.suffix.lower(), read_log)(text_of(path), f"curve={path}")
    except OSError as error:
        raise InputError(f"curve={path} can't be read ({error.strerror or error})") from error
    except ValueError as error:  # a name with a NUL byte, for one
        raise error if isinstance(error, InputError) else InputError(f"curve={path} can't be read ({error})") from error
    return to_curve(table, f"curve={path}", column, loss, train)


def watch_curve(curve: LearningCurve) -> Verdict:
    """:func:`ro_fast.watch` on a curve read from a file."""
    return watch(**curve.columns, epochs=curve.epochs)
