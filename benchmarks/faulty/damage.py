"""Damaged files: a command refuses them in a sentence, or does what it does with sound ones; and bad lines and bad files."""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

from .files import WRITTEN, break_one, flip_bit, found
from .lines import lines
from .trial import Count, Ended, Line, differing, ended, left

_SECONDS = re.compile(r"\b\d+(\.\d+)? s\b")


def flip(files: Path, place: Path, which: int, seed: int) -> Count:
    """Flips one bit of one of the files that commands write, and runs the command that reads it."""
    line, name = WRITTEN[which]
    draw, count = random.Random(seed), Count(f"bit flipped in {Path(name).name}", tried=1)
    _copy(files, place)
    path = found(place, name)
    done = flip_bit(path, draw)
    end = ended(line, place)
    about = f"{line[0]}, {name}, {done}"
    if wrong := end.fault:
        count.fault("hangs" if wrong == "hangs" else "tracebacks", f"{about}: {wrong}: {end.stderr[-400:]}")
    elif end.code == 2:
        count.refused = 1
    elif names := differing(*(without(result, path, place) for result in (_result(end, place), _sound(files, place, line)))):
        count.fault("differs", f"{about}: {', '.join(names)}")
    else:
        count.continued = 1
    return count


def _result(end: Ended, place: Path) -> dict[str, Any]:
    """What a command printed, and what lies there afterwards."""
    return {"printed": _SECONDS.sub("", end.stdout), **left(place)}


_SOUND: dict[Line, dict[str, Any]] = {}  # each command's result with sound files


def _sound(files: Path, place: Path, line: Line) -> dict[str, Any]:
    if line not in _SOUND:
        _copy(files, place)
        _SOUND[line] = _result(ended(line, place), place)
    return _SOUND[line]


def without(result: dict[str, Any], path: Path, place: Path) -> dict[str, Any]:
    """A result without the file that was damaged, which need not have been put right."""
    return {name: content for name, content in result.items() if name != str(path.relative_to(place))}


def bad_file(files: Path, place: Path, seed: int) -> Count:
    """Breaks one file, of a user's or of ours, and runs the command that reads it."""
    _copy(files, place)
    line, done = break_one(place, random.Random(seed))
    end = ended(line, place)
    return _of_input(Count("bad files"), end, f"{line[0]}, {done}")


def bad_lines(place: Path, count: int, seed: int) -> Count:
    """Runs bad command lines in a folder deep enough for ``../..``, and looks for what they wrote elsewhere."""
    top, total = place.parents[2], Count("bad command lines")
    for line in lines(count, seed):
        before = _stamps(top)
        end = ended(line, place)
        _of_input(total, end, " ".join(line))
        for path in {path for path, stamp in _stamps(top).items() if before.get(path) != stamp} - set(_own(line, place, top)):
            total.fault("outside", f"{' '.join(line)}: {path}")
    return total


def _own(line: Line, place: Path, top: Path) -> list[Path]:
    """Everything below the folders that a line names."""
    folders = [part.partition("=")[2] for part in line if part.partition("=")[0] in ("out", "prefixes", "teachers", "run")]
    usual = [place / "outputs", place / "prefixes", place / "teachers"]
    named = [Path(os.path.normpath(place / folder)) for folder in folders if folder and len(folder) < 200 and "\0" not in folder]
    return [path for path in _stamps(top) if any(path.is_relative_to(folder) for folder in (*named, *usual))]


def _stamps(top: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in top.rglob("*") if path.is_file()}


def _of_input(count: Count, end: Ended, about: str) -> Count:
    count.tried += 1
    if wrong := end.fault:
        count.fault("hangs" if wrong == "hangs" else "tracebacks", f"{about}: {wrong}: {end.stderr[-400:]}")
    elif end.code == 2:
        count.refused += 1
    else:
        count.continued += 1
    return count


def _copy(files: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(files, place)
