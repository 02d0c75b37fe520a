"""Commands that are killed, or whose folder fills up, can't be written, vanishes, or is used twice: what is left goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from .files import CHECK, EVALUATE, EXPORT, PROTOCOL, PROTOTYPE, SUITE, TRAIN
from .trial import Count, Ended, Line, Running, altered, differing, ended, left

MOST = 3  # kills of one command before it may end
OUT = "out"


@dataclass(frozen=True)
class Writer:
    """A command that writes into the folder ``out``, and what it needs there or beside it: where that lies, where it goes."""

    line: Line
    given: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The command."""
        return self.line[0]


KILLED = (  # longer than those that make files, so that a kill meets them at work
    Writer(altered(TRAIN, "out=out", "trainer.epochs=40")),
    Writer(altered(SUITE, "out=out", "prefixes=out/prefixes", "trainer.epochs=20", "suite.fork=4", "jobs=2")),
    Writer(altered(EVALUATE, "out=out", "steps=20", "queries=100"), (("run", "run"),)),
    Writer(altered(CHECK, "out=out")),
    # How fast this machine is, and so what fits the budget, is measured once and kept in the plan.
    Writer(altered(PROTOTYPE, "out=out", "prefixes=out/prefixes"), (("decided/plan.json", "out/plan.json"),)),
)
WRITERS = (
    *KILLED,
    Writer(altered(EXPORT, "out=out"), (("run", "run"),)),
    Writer(altered(PROTOCOL, "out=out")),
    Writer(("report", "run=out"), (("suite", "out"),)),
    Writer(("watch", "curve=given/log.csv", "out=out/watch.png"), (("given/log.csv", "given/log.csv"),)),
)


class Undisturbed:
    """A writer's result without a fault, and how long it takes."""

    def __init__(self, writer: Writer, files: Path, place: Path) -> None:
        self.writer, self._files = writer, files
        self.bytes, self.seconds = 0, 0.0
        results = []
        for _ in range(2):  # the second time everything is imported and the disk is warm
            self.prepare(place)
            start = time.monotonic()
            end = ended(writer.line, place)
            self.seconds = time.monotonic() - start
            assert end.code == 0, end.stderr
            results.append(left(place / OUT))
            self.bytes = _bytes(place / OUT)
        assert not differing(*results), f"{writer.name} is not repeatable: {differing(*results)}"
        self.result = results[0]

    def prepare(self, place: Path) -> None:
        """A folder in which the command can start."""
        if (place / OUT).is_mount():
            for path in (place / OUT).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        for there, here in self.writer.given:
            (place / here).parent.mkdir(parents=True, exist_ok=True)
            if (self._files / there).is_dir():
                shutil.copytree(self._files / there, place / here, dirs_exist_ok=True)
            else:
                shutil.copyfile(self._files / there, place / here)

    def lacks_what_it_needs(self, place: Path) -> bool:
        """Whether some of the files that the command was given are gone."""
        for there, here in self.writer.given:
            given = self._files / there
            files = [given, *given.rglob("*")] if given.is_dir() else [given]
            if not all((place / here / file.relative_to(given)).exists() for file in files):
                return True
        return False

    def judge(self, count: Count, place: Path, ends: list[Ended], about: str) -> None:
        """Runs the command once more, to the end, and compares what is there with what should be."""
        line = f"{self.writer.name}, {about}"
        for end in ends:
            if wrong := end.fault_unless(0, 1, 2, -9):
                count.fault("hangs" if wrong == "hangs" else "tracebacks", f"{line}: {wrong}: {end.stderr[-400:]}")
        last = ended(self.writer.line, place)
        if last.code != 0:
            count.fault("hangs" if last.code is None else "tracebacks", f"{line}, then again: {last.code}: {last.stderr[-400:]}")
        elif names := differing(left(place / OUT), self.result):
            count.fault("differs", f"{line}: {', '.join(names)[:300]}")
        else:
            count.continued += 1


def kill(of: Undisturbed, place: Path, seed: int, most: int = MOST) -> Count:
    """Kills a command up to three times at random moments, or one of its workers, then lets it end."""
    draw, count, ends = random.Random(seed), Count(f"killed, {of.writer.name}"), []
    of.prepare(place)
    for _ in range(draw.randint(1, most)):
        running = Running(of.writer.line, place)
        time.sleep(draw.random() * of.seconds)
        workers = running.workers()
        running.kill(draw.choice(workers) if workers and draw.random() < 0.5 else None)
        ends.append(running.ended())
        count.tried += 1
    of.judge(count, place, ends, f"seed {seed}")
    count.continued *= count.tried  # each kill was survived
    return count


def fill_disk(of: Undisturbed, place: Path, seed: int) -> Count:
    """Runs a command in a file system too small for it, then makes that larger."""
    draw, count = random.Random(seed), Count("disk full")
    with _mounted(of, place):
        given = _bytes(place / OUT)
        small = given + 8192 + int(max(0, of.bytes - given) * draw.random())
        _remount(place, f"size={small // 4096 * 4096}")
        end = ended(of.writer.line, place)
        _remount(place, "size=1g")
        return _refused(of, count, place, end, f"{small} of {of.bytes} bytes")


def read_only(of: Undisturbed, place: Path, seed: int) -> Count:
    """Runs a command in a folder that becomes read-only at a random moment."""
    draw, count = random.Random(seed), Count("read-only")
    with _mounted(of, place):
        running = Running(of.writer.line, place)
        time.sleep(draw.random() * of.seconds)
        # A file system whose files are open for writing stays writable: try until it does.
        while subprocess.run(["mount", "-o", "remount,ro", place / OUT], capture_output=True).returncode:
            time.sleep(0.01)
        end = running.ended()
        _remount(place, "rw")
        return _refused(of, count, place, end, f"seed {seed}")


def vanish(of: Undisturbed, place: Path, seed: int) -> Count:
    """Removes a command's folder at a random moment, at once."""
    draw, count = random.Random(seed), Count("folder vanishes")
    of.prepare(place)
    running = Running(of.writer.line, place)
    time.sleep(draw.random() * of.seconds)
    if (place / OUT).exists():
        (place / OUT).rename(place / "gone")
    end = running.ended()
    if of.lacks_what_it_needs(place):
        return count
    return _refused(of, count, place, end, f"seed {seed}")


def twice(of: Undisturbed, place: Path, seed: int) -> Count:
    """Runs a command twice at the same time in the same folder."""
    draw, count = random.Random(seed), Count("two at once")
    of.prepare(place)
    first = Running(of.writer.line, place)
    time.sleep(draw.random() * of.seconds / 2)
    second = Running(of.writer.line, place)
    ends = [first.ended(), second.ended()]
    if ends[0].code != 0:
        count.fault("tracebacks", f"{of.writer.name}: the first of two ended with {ends[0].code}: {ends[0].stderr[-300:]}")
    return _refused(of, count, place, ends[1], f"seed {seed}")


def clock_goes_back(of: Undisturbed, place: Path, seed: int) -> Count:
    """Runs a command whose clock is put back by up to a day again and again."""
    count = Count("clock goes back")
    of.prepare(place)
    now, draw = time.time, random.Random(seed)

    def some_time_ago() -> float:
        return now() - draw.random() * 86400

    def turned_back() -> None:
        mock.patch("time.time", some_time_ago).start()

    return _refused(of, count, place, ended(of.writer.line, place, turned_back), f"seed {seed}")


FOLDERS: dict[str, Callable[[Undisturbed, Path, int], Count]] = {
    "disk full": fill_disk,
    "read-only": read_only,
    "folder vanishes": vanish,
    "two at once": twice,
    "clock goes back": clock_goes_back,
}
NEED_MOUNT = ("disk full", "read-only")


def _refused(of: Undisturbed, count: Count, place: Path, end: Ended, about: str) -> Count:
    count.tried, count.refused = 1, int(end.code in (1, 2))
    of.judge(count, place, [end], f"{count.kind}, {about}")
    return count


@contextlib.contextmanager
def _mounted(of: Undisturbed, place: Path) -> Iterator[None]:
    """A file system in memory at the output folder, with what the command is given."""
    shutil.rmtree(place, ignore_errors=True)
    (place / OUT).mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place / OUT], check=True)
    try:
        of.prepare(place)
        yield
    finally:
        subprocess.run(["umount", "-l", place / OUT], check=True)


def _bytes(folder: Path) -> int:
    """What the files of a folder take on a disk of pages of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a file system, as root in a container of its own may."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.name != "posix" or shutil.which("mount") is None:
        return False
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode:
        return False
    subprocess.run(["umount", folder], check=True)
    return True


def _remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place / OUT], check=True, capture_output=True)
