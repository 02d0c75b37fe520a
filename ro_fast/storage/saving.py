"""Failures to write, such as a full disk, as one sentence: what, why, and what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from ro_fast.errors import InputError, StorageError

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space",
    errno.ENOENT: "its folder has vanished, bring it back",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns a failure to write a file into a sentence; what was saved before is kept.

    Raises:
        StorageError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """What to do about a file that can't be written."""
    reason, remedy = error.strerror or error, _REMEDIES.get(error.errno or 0, "mend that")
    return StorageError(
        f"{path} can't be written ({reason}); {remedy} and run the same command again, which continues from what is saved"
    )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an unwritable folder or file into one line that says so; nothing was begun.

    Raises:
        InputError: in place of an OSError or StorageError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"out={folder} can't be written ({error.strerror or error}); choose another out=") from error
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise InputError(f"out={folder} can't be written ({reason}); choose another out=") from error
