"""What was assumed or left out while data were read, said once in a process: every run of a suite reads the same data."""

from __future__ import annotations

import functools
import logging

log = logging.getLogger("ro_fast")


@functools.lru_cache(maxsize=1000)
def say_once(message: str) -> None:
    """Logs a sentence the first time that it is given."""
    log.warning("%s", message)
