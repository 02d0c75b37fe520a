"""A command's work with its errors in one line each, and its exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from ro_fast.config_values import told
from ro_fast.errors import InputError, WorkError
from ro_fast.progress import show_notices


def guarded(argv: list[str], work: Callable[[], None]) -> int:
    """Does the work of a command line and returns its exit code; an error becomes one line."""
    command = argv[0]
    try:
        show_notices()
        work()
        return 0
    except KeyboardInterrupt:
        resumed = command in ("train", "ablate", "prototype", "evaluate")
        state = "the state is saved, continue with" if resumed else "start again with"
        print(f"interrupted; {state}: ro-fast {' '.join(argv)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head or less, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("RO_FAST_DEBUG") == "1":
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # by whichever look at it came first
            error = InputError(f"{told(error.filename)} is too long for the name of a file")
        code = 2 if isinstance(error, InputError) else 1
        hint = "" if isinstance(error, (InputError, WorkError)) else " (RO_FAST_DEBUG=1 shows where)"
        print(f"ro-fast {command}: {one_line(error)}{hint}", file=sys.stderr)
        return code


def one_line(error: BaseException) -> str:
    """An exception's message in one line of printable letters.

    >>> one_line(InputError("curve=a\\x01b\\nis missing"))
    'curve=a\\\\x01b is missing'
    """
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
