"""``python -m ro_fast.benchmarks.stability``: does the default suite say the same with other seeds, engines and thread counts?

Four disjoint sets of three seeds, two engines, one and two threads a run: sixteen suites for a data set. "Unclear" is an answer;
two different answers that are both said to be settled are not. Runs that are there already are kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ro_fast.findings.effects import OPEN
from ro_fast.findings.overfitting import OVERFITS
from ro_fast.findings.study import read_results
from ro_fast.storage.records import as_json, parse

from .run import RESULTS

SEEDS = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
ENGINES, THREADS = ("auto", "eager"), (1, 2)
FILE = RESULTS / "cpu" / "stability.jsonl"


@dataclass(frozen=True)
class Answer:
    """The result of one suite."""

    data: str
    seeds: list[int]
    engine: str
    threads: int
    code: str | None
    effects: dict[str, str]  # arm -> its result by the rules
    roles: dict[str, str | None]
    seconds: float
    cpu: str | None
    torch: str | None
    source: str | None


def suite(data: str, seeds: Sequence[int], engine: str, threads: int, folder: Path) -> Answer:
    """Runs one suite in a separate process, and returns its findings."""
    out = folder / f"{data}-{'_'.join(map(str, seeds))}-{engine}-{threads}"
    numbers = ",".join(map(str, seeds))
    command = [sys.executable, "-m", "ro_fast", "ablate", f"data={data}", f"seeds=[{numbers}]", f"attack.engine={engine}"]
    jobs = max(1, (os.cpu_count() or 1) // threads)
    command += [f"threads={threads}", f"jobs={jobs}", f"out={out}", f"prefixes={folder / 'prefixes'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = read_results(out)
    return Answer(
        data=data,
        seeds=list(seeds),
        engine=engine,
        threads=threads,
        code=found.finding.code,
        effects={arm.name: arm.effect for arm in found.finding.arms},
        roles={arm.name: arm.role for arm in found.arms},
        seconds=found.wall_seconds,
        cpu=found.environment.cpu,
        torch=found.environment.torch,
        source=found.environment.source,
    )


def differing(rows: Sequence[Answer], arm: str) -> set[str]:
    """The settled answers for an arm; more than one is a contradiction."""
    return {row.effects[arm] for row in rows if row.effects.get(arm, OPEN[0]) not in OPEN}


def read_answers() -> list[Answer]:
    """Every suite run so far."""
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
    return [parse(Answer, json.loads(line)) for line in lines]


def said(rows: Sequence[Answer]) -> str:
    """For each data set, how many suites ran and which factors got two different settled answers."""
    lines = []
    for data, group in itertools.groupby(rows, key=lambda row: row.data):
        runs = list(group)
        factors = [arm for arm, role in runs[0].roles.items() if role == "factor"]
        contradicted = ", ".join(arm for arm in factors if len(differing(runs, arm)) > 1)
        overfits = sum(row.code == OVERFITS for row in runs)
        planned = len(SEEDS) * len(ENGINES) * len(THREADS)
        lines.append(
            f"* {data}: {len(runs)} of {planned} suites, on an {runs[0].cpu}; {overfits} overfit; "
            f"factors with two different settled answers: {contradicted or 'none'}."
        )
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Answer]) -> str:
    """The result of each suite on each arm, and whether any two contradict each other."""
    lines = ["# Stable or not", "", "Made by `python -m ro_fast.benchmarks.stability`; every suite is in stability.jsonl.", ""]
    for data, group in itertools.groupby(rows, key=lambda row: row.data):
        runs = list(group)
        arms = list(runs[0].roles)
        lines += [f"## {data}", "", said(runs)]
        heads = [f"{row.seeds[0]}–{row.seeds[-1]}, {row.engine}, {row.threads}" for row in runs]
        lines += ["| seeds, engine, threads | overfits | " + " | ".join(arms[1:]) + " |", "|" + "---|" * (len(arms) + 1)]
        for head, row in zip(heads, runs, strict=True):
            lines.append("| " + " | ".join([head, str(row.code), *(row.effects.get(arm, "") for arm in arms[1:])]) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits_noisy")
    parser.add_argument("--work", type=Path, default=Path("outputs/stability"), help="where the suites are stored")
    args = parser.parse_args()
    rows = read_answers()
    known = {(row.data, tuple(row.seeds), row.engine, row.threads) for row in rows}
    for seeds, engine, threads in itertools.product(SEEDS, ENGINES, THREADS):
        if (args.data, seeds, engine, threads) in known:
            continue
        rows.append(suite(args.data, seeds, engine, threads, args.work))
        rows.sort(key=lambda row: (row.data, row.seeds, row.engine, row.threads))
        FILE.write_text("".join(json.dumps(as_json(row)) + "\n" for row in rows), encoding="utf-8")
        FILE.with_suffix(".md").write_text(table(rows), encoding="utf-8")
        print(f"seeds {seeds}, {engine}, {threads} threads: {rows[-1].code}", flush=True)


if __name__ == "__main__":
    main()
