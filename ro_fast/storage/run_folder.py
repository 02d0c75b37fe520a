"""A run's folder: one process works in it at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ro_fast.errors import InputError
from ro_fast.storage.checkpoint import UNFINISHED
from ro_fast.storage.saving import writing


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, which the system releases when the process ends, for whatever reason.

    Removes what a process that was killed had begun to write.

    Raises:
        InputError: if another process holds it, or it can't be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            # The processes of a killed suite need a moment to end.
            lock.acquire(timeout=10)
        except Timeout as error:
            raise InputError(f"another process is using out={folder}; wait for it or choose another out=") from error
    try:
        for place in (folder, folder / "figures"):
            for unfinished in place.glob(f".*{UNFINISHED}"):
                unfinished.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
