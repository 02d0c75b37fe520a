"""A run's folder: one process works in it at a time, and failures to write are reported in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ro_fast.errors import InputError, WorkError


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


@contextlib.contextmanager
def saving(folder: Path, epoch: int) -> Iterator[None]:
    """Turns a failure to write, such as a full disk, into one line that says what is kept."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"{folder}: epoch {epoch} could not be saved ({error.strerror or error}); "
            "free some space and run the same command again, which continues from the last saved epoch"
        ) from error


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an unwritable folder or file into one line that says so; nothing was begun."""
    try:
        yield
    except OSError as error:
        raise InputError(f"out={folder} can't be written ({error.strerror or error}); choose another out=") from error
