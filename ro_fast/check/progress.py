"""Progress lines during a check; they go through the log, so that a library's caller sees none unless asked for."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("ro_fast.check")
_EVERY = 5.0  # seconds between lines of one step


class Ticker:
    """Reports the progress of a long step every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self._said = time.monotonic()

    def tick(self, done: int) -> None:
        """Receives how many of the total are done."""
        now = time.monotonic()
        if now - self._said >= _EVERY and done < self.total:
            self._said = now
            log.info("  %s: %d of %d", self.what, done, self.total)
