"""``python -m ro_fast.benchmarks.scale``: what a study of CIFAR's size costs on 1, 8 and 64 GPUs, on paper, from measured epochs.

Nothing is run. The epochs of the GPU's measurements (benchmarks/results/nvidia-h100) times the suite's epochs, placed on GPUs as
``ablate`` does it: an arm starts when its prefix is done and a GPU is free. Scoring is not in it, for lack of a measurement.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ro_fast.cli import compose
from ro_fast.suite.plan import Branch, plan

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "benchmarks" / "results" / "nvidia-h100" / "04cbed1" / "rows.jsonl"
OUT = ROWS.parents[1] / "scale.json"
EPOCHS, SEEDS, GPUS = 200, 5, (1, 8, 64)
LOOPS = {"Rice step TF32": "Rice et al.'s loop, TF32", "ours lean TF32 (auto)": "ro_fast, TF32, default of that commit"}


@dataclass(frozen=True)
class Piece:
    """Epochs that are trained in one go."""

    epochs: int
    after: str | None  # the prefix that has to be done first


def pieces(branches: Sequence[Branch], share: bool) -> tuple[dict[str, int], list[Piece]]:
    """Prefixes with their epochs, and the arms' pieces; without sharing, each arm is a piece of its own."""
    if not share:
        return {}, [Piece(branch.config.trainer.epochs, None) for branch in branches]
    prefixes = {branch.prefix.out: branch.fork for branch in branches}
    return prefixes, [Piece(branch.own_epochs, branch.prefix.out) for branch in branches]


def makespan(prefixes: Mapping[str, int], arms: Sequence[Piece], gpus: int) -> int:
    """Epochs from start to end if every GPU takes the next piece that is ready, prefixes first.

    >>> makespan({"p": 2}, [Piece(3, "p"), Piece(3, "p"), Piece(5, None)], 2), makespan({"p": 2}, [Piece(3, "p")], 64)
    (8, 5)
    """
    free = [0] * gpus  # when each GPU is free
    done: dict[str, int] = {}
    for name, epochs in prefixes.items():
        done[name] = heapq.heappop(free) + epochs
        heapq.heappush(free, done[name])
    ends = [0]
    for piece in sorted(arms, key=lambda piece: done.get(piece.after or "", 0)):
        ends.append(max(heapq.heappop(free), done.get(piece.after or "", 0)) + piece.epochs)
        heapq.heappush(free, ends[-1])
    return max(ends)


def estimate(seconds: Mapping[str, float], branches: Sequence[Branch], per_hour: float, currency: str) -> dict[str, Any]:
    """Hours and money by loop, with and without shared prefixes, and where more GPUs no longer help."""
    rows = []
    for label, second in seconds.items():
        for share in (False, True):
            prefixes, own = pieces(branches, share)
            hours = (sum(prefixes.values()) + sum(piece.epochs for piece in own)) * second / 3600
            walls = {n: makespan(prefixes, own, n) * second / 3600 for n in GPUS}
            name = f"{LOOPS[label]}{', shared prefixes' if share else ''}"
            rows.append({"loop": name, "epoch_seconds": second, "gpu_hours": hours, "hours": walls, "money": per_hour * hours})
    prefixes, own = pieces(branches, True)
    all_at_once = len(own) + len(prefixes)
    least = makespan(prefixes, own, all_at_once)
    return {
        "arms": len({branch.arm.name for branch in branches}),
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "per_hour": per_hour,
        "currency": currency,
        "rows": rows,
        "prefixes": len(prefixes),
        "least_epochs": least,
        "enough_gpus": next(n for n in range(1, all_at_once + 1) if makespan(prefixes, own, n) == least),
    }


def table(found: Mapping[str, Any]) -> str:
    """The estimate as Markdown."""
    gpus = list(found["rows"][0]["hours"])
    lines = [
        f"{found['arms']} arms, {found['seeds']} seeds, {found['epochs']} epochs of 50 000 images of 3×32×32 by PGD-10 on",
        "PreActResNet-18, batch 128, without scoring; an hour of a GPU at "
        f"{found['per_hour']:g} {found['currency']}, which is an assumption.",
        "",
        f"| loop | one epoch, s | GPU hours | {' | '.join(f'{n} GPU' + 's' * (n != '1') for n in gpus)} | {found['currency']} |",
        "|---|---|---|" + "---|" * (len(gpus) + 1),
    ]
    for row in found["rows"]:
        walls = [f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d" for hours in row["hours"].values()]
        cells = [row["loop"], f"{row['epoch_seconds']:.1f}", f"{row['gpu_hours']:.0f}", *walls, f"{row['money']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"With shared prefixes, nothing is faster than one run from beginning to end, {found['least_epochs']} epochs, which",
        f"{found['enough_gpus']} GPUs reach; only `nproc=` shortens that. {found['prefixes']} prefixes come first: until they",
        "are done, no more GPUs than that have work.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-hour", type=float, default=2.5)
    parser.add_argument("--currency", default="USD")
    args = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    measured = {row["label"]: row["seconds_50k"] for row in rows if row["kind"] == "epoch"}
    branches = plan(compose("ablate", ["suite=paper", f"seeds={SEEDS}", f"trainer.epochs={EPOCHS}"]))
    found = estimate({label: measured[label] for label in LOOPS}, branches, args.per_hour, args.currency)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(json.loads(OUT.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
