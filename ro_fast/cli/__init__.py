"""``ro-fast <command> [key=value ...]``: runs one command, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from ro_fast.cli.commands import COMMANDS
from ro_fast.cli.compose import compose, composed, one_line
from ro_fast.cli.help import help_text, wanted_help
from ro_fast.config_values import told
from ro_fast.errors import InputError, WorkError
from ro_fast.progress import show_notices

__all__ = ["COMMANDS", "compose", "main", "run"]


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``ro-fast``; exits with 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        from ro_fast import __version__

        print(__version__)
        return 0
    return guarded(argv, lambda: _do(*argv))


def _do(command: str, *arguments: str) -> None:
    if command not in COMMANDS:
        raise InputError(f"there is no command '{command}'; available: {', '.join(COMMANDS)}")
    about, overrides = wanted_help(list(arguments))
    if about is not None:
        print(help_text(command, about, overrides))
    elif COMMANDS[command].schema is None and not arguments:
        COMMANDS[command].run(None)  # without Hydra, which may be what is missing
    else:
        for config in composed(command, list(arguments)):
            COMMANDS[command].run(config)


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


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: ro-fast <command> [key=value ...]", "", *lines, "", "ro-fast <command> --help lists its keys."])
