"""A run's folder: one process works in it at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ro_fast.errors import InputError
from ro_fast.storage.saving import writing


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the system releases it when the process ends, for whatever reason."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            # The processes of a killed suite need a moment to end.
            lock.acquire(timeout=10)
        except Timeout as error:
            raise InputError(f"another process is using out={folder}; wait for it or choose another out=") from error
    try:
        yield
    finally:
        lock.release()
