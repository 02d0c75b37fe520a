"""``python -m ro_fast.benchmarks.faults``: kills commands, damages files, fills disks, gives bad input, and counts the results.

Every trial is a command line in a process of its own, on tiny data, drawn from a seed. It should be refused in one sentence, or
end with the result of an undisturbed run, at once or when the same command is run again. The table counts what was tried, refused
and continued, and our faults: results that differ, tracebacks (Python's text or another exit code), hangs, and writes outside the
output folder.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: forked processes can't use threads that were started

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ro_fast.environment import environment
from ro_fast.storage.records import write

from .faulty import damage, kills
from .faulty.files import WRITTEN, make_files
from .faulty.lines import workspace
from .faulty.trial import Count
from .run import RESULTS

FILE = RESULTS / "cpu" / "faults.json"
CHUNK = 20  # bad lines run by one process


@dataclass(frozen=True)
class Campaign:
    """The result of one run of the command."""

    seed: int
    counts: list[Count]
    seconds: float
    not_tried: list[str]
    cpu: str | None
    torch: str | None
    source: str | None


@dataclass(frozen=True)
class _Trial:
    run: Callable[..., Count]
    arguments: tuple[Any, ...]


def campaign(work: Path, number: dict[str, int], seed: int, jobs: int) -> Campaign:
    """Runs all trials, ``jobs`` at a time.

    Args:
        work: an empty folder.
        number: how many ``kills``, ``folders`` (of each kind and command), ``flips``, ``files`` and ``lines``.
        seed: of all draws.
        jobs: processes.
    """
    start = time.monotonic()
    files = work / "files"
    files.mkdir(parents=True)
    make_files(files)
    undisturbed = [kills.Undisturbed(writer, files, work / "undisturbed") for writer in kills.WRITERS]
    mounts = kills.can_mount(work / "mount")
    trials = list(_trials(undisturbed, files, number, seed, mounts))
    total: dict[str, Count] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        running = [pool.submit(_run, trial, work) for trial in trials]
        for done, task in enumerate(as_completed(running), start=1):
            count = task.result()
            total.setdefault(count.kind, Count(count.kind)).add(count)
            faults = sum(len(each.examples) for each in total.values())
            print(f"[{done}/{len(trials)}] {count.kind}, {faults} faults", *count.examples, sep="\n", flush=True)
    here = environment(torch.device("cpu"))
    order = {kind: place for place, kind in enumerate(_order())}
    counts = sorted(total.values(), key=lambda count: (order.get(count.kind, 50), count.kind))
    missing = [] if mounts else [f"{kind}: needs the right to mount a file system" for kind in kills.NEED_MOUNT]
    return Campaign(seed, counts, time.monotonic() - start, missing, here.cpu, here.torch, here.source)


def _order() -> list[str]:
    return [*(f"killed, {writer.name}" for writer in kills.KILLED), *kills.FOLDERS]


def _trials(
    undisturbed: list[kills.Undisturbed], files: Path, number: dict[str, int], seed: int, mounts: bool
) -> Iterator[_Trial]:
    """Slow ones first, so that all processes end together."""
    seeds = itertools.count(seed * 10**6)
    each = -(-number["kills"] // len(kills.KILLED))
    for of in undisturbed[: len(kills.KILLED)]:
        yield from (_Trial(_kill, (of, next(seeds), min(kills.MOST, each - first))) for first in range(0, each, 2))
    for kind, of in itertools.product(kills.FOLDERS, undisturbed):
        if mounts or kind not in kills.NEED_MOUNT:
            yield from (_Trial(_folder, (kind, of, next(seeds))) for _ in range(number["folders"]))
    yield from (_Trial(_flip, (files, trial % len(WRITTEN), next(seeds))) for trial in range(number["flips"]))
    yield from (_Trial(_file, (files, next(seeds))) for _ in range(number["files"]))
    for first in range(0, number["lines"], CHUNK):
        yield _Trial(_lines, (min(CHUNK, number["lines"] - first), next(seeds)))


def _run(trial: _Trial, work: Path) -> Count:
    with tempfile.TemporaryDirectory(dir=work) as place:
        return trial.run(Path(place), *trial.arguments)


def _kill(place: Path, of: kills.Undisturbed, seed: int, most: int) -> Count:
    return kills.kill(of, place / "p", seed, most)


def _folder(place: Path, kind: str, of: kills.Undisturbed, seed: int) -> Count:
    return kills.FOLDERS[kind](of, place / "p", seed)


def _flip(place: Path, files: Path, which: int, seed: int) -> Count:
    return damage.flip(files, place / "p", which, seed)


def _file(place: Path, files: Path, seed: int) -> Count:
    return damage.bad_file(files, place / "p", seed)


def _lines(place: Path, count: int, seed: int) -> Count:
    with workspace(place) as inner:
        return damage.bad_lines(inner, count, seed)


def table(found: Campaign) -> str:
    """The counts as a page in Markdown."""
    heads = ["tried", "refused", "continued", "differing", "tracebacks", "hangs", "outside"]
    command = f"python -m ro_fast.benchmarks.faults --seed {found.seed}"
    lines = [
        *("# Faults", "", f"Made by `{command}`; every number is in faults.json.", ""),
        *(f"{said(found)}", ""),
        *("| fault | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"),
    ]
    for count in [*found.counts, _sum(found)]:
        lines.append("| " + " | ".join([count.kind, *(str(getattr(count, head)) for head in heads)]) + " |")
    lines += ["", *(f"* Not tried here: {reason}." for reason in found.not_tried)]
    examples = [f"* {count.kind}: {example}" for count in found.counts for example in count.examples]
    return "\n".join([*lines, *examples]).rstrip() + "\n"


def said(found: Campaign) -> str:
    """The result in a sentence."""
    total, kinds = _sum(found), {count.kind: count for count in found.counts}
    killed = sum(count.tried for kind, count in kinds.items() if kind.startswith("killed"))
    flipped = sum(count.tried for kind, count in kinds.items() if kind.startswith("bit flipped"))
    inputs = sum(count.tried for kind, count in kinds.items() if kind.startswith("bad "))
    others = total.tried - killed - flipped - inputs
    return (
        f"{killed} kills, {others} full, read-only, vanished or shared folders and clocks put back, {flipped} flipped bits and "
        f"{inputs} bad inputs: {total.differing} different results, {total.tracebacks} tracebacks, {total.hangs} hangs and "
        f"{total.outside} writes outside the output folder"
    )


def _sum(found: Campaign) -> Count:
    total = Count("all")
    for count in found.counts:
        total.add(count)
    return total


def main() -> None:
    """Runs the campaign and writes the table; exits with 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--folders", type=int, default=3, help="of each kind, for each command that writes")
    parser.add_argument("--flips", type=int, default=525)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--lines", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    number = {key: getattr(args, key) for key in ("kills", "folders", "flips", "files", "lines")}
    with tempfile.TemporaryDirectory() as work:
        found = campaign(Path(work).resolve(), number, args.seed, args.jobs)
    write(args.out, found)
    args.out.with_suffix(".md").write_text(table(found), encoding="utf-8")
    print(said(found))
    total = _sum(found)
    raise SystemExit(int(total.differing + total.tracebacks + total.hangs + total.outside > 0))


if __name__ == "__main__":
    main()
