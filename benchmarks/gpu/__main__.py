"""``python -m ro_fast.benchmarks.gpu [GROUP or GROUP.MEASUREMENT ...] [--dry] [--out FOLDER]``: all in about six minutes.

Each group is measured in a process of its own. Rows go to FOLDER/gpu.jsonl as they come; a process that dies costs the
measurement it was at, and another one goes on behind it.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..run import RESULTS
from . import attacks, drop_in, evaluation, operators, suites, training
from .rows import Rows, key_of, read
from .session import DeviceLost, Session
from .targets import TARGETS

GROUPS = {  # measurements, and the seconds they may take together
    "attacks": (attacks.MEASUREMENTS, 100.0),
    "training": (training.MEASUREMENTS, 50.0),
    "operators": (operators.MEASUREMENTS, 55.0),
    "evaluation": (evaluation.MEASUREMENTS, 35.0),
    "suites": (suites.MEASUREMENTS, 65.0),
    "drop_in": (drop_in.MEASUREMENTS, 70.0),
}
DRY_SECONDS = 120.0
GRACE = 30.0  # seconds beyond a group's limit, for the measurement running when it expires
LOST = 3  # exit status of a process that lost the device


def main(args: Sequence[str] | None = None) -> int:
    """Measures and prints each target's verdict; returns 1 if a target's row is missing or something failed."""
    parser = argparse.ArgumentParser(prog="python -m ro_fast.benchmarks.gpu", description=__doc__.split("\n")[2])
    parser.add_argument("names", nargs="*", help=f"groups ({', '.join(GROUPS)}) or measurements (attacks.memory); all if none")
    parser.add_argument("--dry", action="store_true", help="on the CPU with small shapes: a trial run, without timings")
    parser.add_argument("--out", type=Path, help="folder of gpu.jsonl; default: benchmarks/results/DEVICE")
    parser.add_argument("--here", type=float, metavar="SECONDS", help="run in this process for that long, as subprocesses do")
    given = parser.parse_args(args)
    if not given.dry and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --dry runs everything on the CPU with small shapes")
    names = chosen(parser, given.names)
    device = "cpu" if given.dry else "cuda"
    name = "dry" if given.dry else torch.cuda.get_device_name().replace(" ", "-").lower()
    path = (given.out or RESULTS / name) / "gpu.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = Rows(path, device, given.dry)
    if given.here is not None:
        return measure(Session(rows, given.dry, given.here), names)
    offset = path.stat().st_size if path.exists() else 0
    for some, seconds in batches(names, given.dry):

        def command(left: list[str], seconds: float) -> list[str]:
            options = ["--out", str(path.parent), "--here", f"{seconds:.0f}"] + ["--dry"] * given.dry
            return [sys.executable, "-m", "ro_fast.benchmarks.gpu", *left, *options]

        apart(command, some, rows, seconds)
    whole = {group for group, (measurements, _) in GROUPS.items() if all(f"{group}.{m}" in names for m in measurements)}
    return verdicts(list(read(path, offset)), whole)


def chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> list[str]:
    """The measurements denoted by names of groups and of measurements, "group.measurement" each, in order."""
    every = [f"{group}.{measurement}" for group, (measurements, _) in GROUPS.items() for measurement in measurements]
    for name in names:
        if name not in GROUPS and name not in every:
            parser.error(f"'{name}' is unknown; available: {', '.join(GROUPS)}, and {', '.join(every)}")
    return [name for name in every if not names or name in names or name.split(".")[0] in names]


def batches(names: list[str], dry: bool) -> list[tuple[list[str], float]]:
    """What is measured in one process, and for how long: a group or, in a dry run, which should be short, everything."""
    if dry:
        return [(names, DRY_SECONDS)]
    found = [([n for n in names if n.startswith(f"{group}.")], seconds) for group, (_, seconds) in GROUPS.items()]
    return [(some, seconds) for some, seconds in found if some]


def measure(session: Session, names: list[str]) -> int:
    """Runs measurements in this process; each ends with a row that says so."""
    for name in names:
        group, _, measurement = name.partition(".")
        run = functools.partial(GROUPS[group][0][measurement], session)
        start = time.monotonic()
        if session.left() < 0:
            session.rows.put("skipped", name, why="the group's time is over")
        else:
            try:
                session.guarded(name, run)
                session.tidy()
            except DeviceLost as error:
                session.rows.error(name, error)
                return LOST
        session.rows.put("end", name, seconds=time.monotonic() - start)
    return 0


def apart(command: Callable[[list[str], float], list[str]], names: list[str], rows: Rows, seconds: float) -> None:
    """Runs measurements in another process; if it dies or takes too long, one more process runs the rest."""
    left, end = list(names), time.monotonic() + seconds
    while left:
        offset = rows.path.stat().st_size if rows.path.exists() else 0
        remaining = end - time.monotonic()
        if remaining <= 0:
            for name in left:
                rows.put("skipped", name, why="the group's time is over")
            return
        try:
            status = f"ended with status {subprocess.run(command(left, remaining), timeout=remaining + GRACE).returncode}"
        except subprocess.TimeoutExpired:
            status = f"was stopped after {remaining + GRACE:.0f} s"
        ended = {row["name"] for row in read(rows.path, offset) if row["kind"] == "end"}
        left = [name for name in left if name not in ended]
        if left:
            rows.put("error", left.pop(0), error=f"its process {status}")


def verdicts(rows: list[dict], groups: set[str]) -> int:
    """Prints the measurements of each target; returns 1 if one of these groups' targets has no row, or something failed."""
    for row in rows:
        if row["kind"] == "target":
            verdict = "dry" if row.get("dry") else {True: "met", False: "MISSED", None: ""}[row["met"]]
            limits = f"must {row['must']}, goal {row['goal']}"
            print(f"{key_of(row):16} {row['measured']:8.3g}  {limits:24} {verdict:6}  {row['name']}")
    lacking, errors = missing(rows, groups), [row for row in rows if row["kind"] == "error"]
    for key in lacking:
        print(f"{key:16} NO ROW: {TARGETS[key].what}")
    for row in errors:
        print(f"error: {row['name']}: {row['error']}")
    return int(bool(lacking or errors))


def missing(rows: list[dict], groups: set[str]) -> list[str]:
    """Targets of these groups that have no row."""
    found = {key_of(row) for row in rows if row["kind"] == "target"}
    return [key for key, target in TARGETS.items() if target.group in groups and key not in found]


if __name__ == "__main__":
    sys.exit(main())
