"""A run's folder: one process works in it at a time."""

from __future__ import annotations

import _thread
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from ro_fast.errors import InputError
from ro_fast.storage.checkpoint import UNFINISHED
from ro_fast.storage.saving import writing

_log = logging.getLogger("ro_fast")
LEASE = 60.0  # seconds after which the lock of a process on another machine that is not heard of any more goes to the next

_PATIENCE = 10.0  # seconds, since the processes of a killed suite need a moment to end


class Busy(InputError):
    """Another process works in the folder."""


def lock_of(path: Path) -> SoftFileLease:
    """A lock that holds on file systems that machines share, by files that are made only if they are not there.

    A process renews it while it runs. One that was killed loses it: at once to a process of the same machine, which sees that it
    is gone, and after ``LEASE`` seconds to one of another.
    """
    return SoftFileLease(path, lease_duration=LEASE, on_compromise=_lost)


def _lost(how: LeaseCompromise) -> None:
    """Ends the work of a process that was not heard of for so long, as after the machine slept, that another took it over."""
    if how.reason == "owner-changed":
        _log.error("another process has taken over %s, since this one did not renew its lock for %.0f s", how.lock_file, LEASE)
        _thread.interrupt_main()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, and removes what a process that was killed had begun to write.

    Raises:
        Busy: if another process holds it.
        InputError: if it can't be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_of(folder / ".lock")
        try:
            # Whether a process of another machine has ended shows only with time.
            here = lock.owner is None or lock.owner.hostname == socket.gethostname()
            lock.acquire(timeout=_PATIENCE if here else LEASE + _PATIENCE)
        except Timeout as error:
            raise Busy(f"another process is using out={folder}; wait for it or choose another out=") from error
    try:
        for place in (folder, folder / "figures"):
            for unfinished in place.glob(f".*{UNFINISHED}"):
                unfinished.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
