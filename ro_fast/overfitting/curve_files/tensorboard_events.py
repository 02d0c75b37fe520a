"""TensorBoard's event files: one, or all of a folder with its sub-folders, which ``add_scalars`` and keras write."""

from __future__ import annotations

from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.overfitting.curve_files.table import Row, Table


def find_events(path: Path) -> list[Path]:
    """The event files of a folder in the order of their names, which is that of their start; a file itself."""
    files = sorted(path.rglob("*tfevents*"), key=lambda file: (file.parent, file.name)) if path.is_dir() else [path]
    if not files:
        raise InputError(f"curve={path} holds no metrics.jsonl, metrics.csv or TensorBoard event file; name the intended file")
    return files


def read_events(root: Path, files: list[Path]) -> Table:
    """The scalars of all files, a row each. Tags of a sub-folder are prefixed with its name.

    ``add_scalars("acc", {"test": …})`` writes the tag ``acc`` into the sub-folder ``acc_test``; it is named ``acc_test`` here.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise InputError(f"curve={root} holds TensorBoard event files, which need: {pip_install('tensorboard')}") from error
    table = []
    for file in files:
        folder = "" if root == file else file.parent.relative_to(root).as_posix().removeprefix(".")
        events = EventAccumulator(str(file), size_guidance={SCALARS: 0, TENSORS: 0})
        try:
            events.Reload()
        except Exception as error:  # of several libraries below it
            raise InputError(f"curve={file} is no TensorBoard event file, or is damaged ({error})") from error
        scalars = [(tag, event.step, float(event.value)) for tag in events.Tags()[SCALARS] for event in events.Scalars(tag)]
        for tag in events.Tags()[TENSORS]:  # scalars as stored by newer writers
            for event in events.Tensors(tag):
                value = make_ndarray(event.tensor_proto)
                if value.size == 1 and value.dtype.kind in "fiu":
                    scalars.append((tag, event.step, float(value.reshape(()))))
        table += [Row(0, {"step": step, _column(folder, tag): value}) for tag, step, value in scalars]
    if not table:
        raise InputError(f"curve={root} holds no scalars in its {len(files)} TensorBoard event files")
    return table


def _column(folder: str, tag: str) -> str:
    own = folder.rpartition("/")[2]
    if own.startswith(tag.replace("/", "_") + "_"):
        return folder
    return f"{folder}/{tag}" if folder else tag
