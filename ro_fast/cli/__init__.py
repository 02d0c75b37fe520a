"""``ro-fast <command> [key=value ...]``: runs one command, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys

from ro_fast.cli.commands import COMMANDS
from ro_fast.cli.compose import compose, composed
from ro_fast.cli.guarded import guarded
from ro_fast.cli.help import help_text, wanted_help
from ro_fast.errors import InputError

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


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: ro-fast <command> [key=value ...]", "", *lines, "", "ro-fast <command> --help lists its keys."])
