"""Files that users name, and names that become part of a path: checked before anything is read or written."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from ro_fast.errors import InputError

LONGEST = 100  # bytes of a name: file systems take 255, and others are added to it


def given_file(path: Path, what: str) -> Path:
    """The path of a regular file.

    Args:
        path: as the user gave it.
        what: how it was given, such as "curve=log.csv", and in messages what is wrong with it.

    Raises:
        InputError: if nothing is there, or something that is not a file: a folder, a pipe (which would wait for ever), a device,
            a socket, or a link that leads to itself.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{what} does not exist") from error
    except (OSError, ValueError, RuntimeError) as error:  # a circle of links, a name too long or with a NUL, no permission
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} can't be read ({reason}); the path of a file is needed") from error
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    found = next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
    if not stat.S_ISREG(mode):
        raise InputError(f"{what} is {found}; the path of a file is needed")
    return path


def part_of_path(name: str, what: str) -> str:
    """A name that may become the name of a folder or file.

    Raises:
        InputError: if it could lead elsewhere or can't be such a name.

    >>> part_of_path("small loss, 東京", "arm")
    'small loss, 東京'
    """
    short = name if len(name) <= 40 else f"{name[:37]}…"
    shown = short.encode("unicode_escape").decode("ascii") if not short.isprintable() else short
    if not name.strip() or name in (".", ".."):
        raise InputError(f"{what} '{shown}' needs a name, which becomes that of a folder")
    if any(letter in "/\\" or not letter.isprintable() for letter in name):
        raise InputError(f"{what} '{shown}' becomes the name of a folder; it can't hold '/', '\\\\' or control characters")
    if len(name.encode()) > LONGEST:
        raise InputError(f"{what} '{shown}' becomes the name of a folder; it can't be longer than {LONGEST} bytes")
    return name


def own_folder(out: str, sign: str | tuple[str, ...], written: Sequence[str]) -> Path:
    """The output folder of a command, if nothing of others would be overwritten in it.

    Args:
        out: as configured.
        sign: what an earlier run of the same command has left there: it writes that, or one of them, before all the others.
        written: what the command writes or overwrites.

    Raises:
        InputError: if no folder is named, or it holds such files without the sign.
    """
    if not out:
        raise InputError("out= is empty; the name of a folder is needed")
    folder = Path(out)
    there = [name for name in written if (folder / name).exists()]
    signs = (sign,) if isinstance(sign, str) else sign
    if there and not any((folder / name).exists() for name in signs):
        raise InputError(f"out={out} holds {there[0]} that this command has not written; choose another out=")
    return folder
