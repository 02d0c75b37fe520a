"""``ro-fast bench``, or ``python -m benchmarks.run``: everything that is fast compared with its rivals, in pairs, on this CPU.

Every row is first checked for correctness. Rows are printed and written as they are measured.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from ro_fast.environment import environment, keep_freed_memory
from ro_fast.errors import InputError, WorkError

from . import machine
from .evaluation import evaluation_rows
from .mlps import mlp_rows
from .networks import network_rows
from .operators import operator_rows
from .paired import Row, copy_speed

RESULTS = Path(__file__).parent / "results"
GROUPS: dict[str, Callable[[], Iterator[Row]]] = {
    "operators": operator_rows,
    "mlps": mlp_rows,
    "evaluation": evaluation_rows,
    "networks": network_rows,
}


def bench(out: Path, groups: Sequence[str] = (), fail_under: str | None = None) -> None:
    """Measures the groups (all by default) on one thread and writes ``out/bench.json``.

    Raises:
        InputError: on an unknown group or limit, before anything is measured.
        WorkError: if a target's ``fail_under`` ("must" or "goal") is missed; all rows are written by then.
    """
    for group in groups:
        if group not in GROUPS:
            raise InputError(f"groups: '{group}' is unknown; available: {', '.join(GROUPS)}")
    if fail_under not in (None, "must", "goal"):
        raise InputError(f"fail_under = {fail_under} is unknown; available: must, goal")
    out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # otherwise the rivals' chains fault in their temporaries at every step, and ours, in place, don't
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    for group in groups or GROUPS:
        for row in GROUPS[group]():
            rows.append(row)
            print(line(row), flush=True)
            text = json.dumps({"about": about(), "rows": [r.as_json() for r in rows]}, indent=1, ensure_ascii=False)
            (out / "bench.json").write_text(text + "\n", encoding="utf-8")
    print(f"written to {out / 'bench.json'}")
    missed = [row for row in rows if fail_under is not None and row.falls_short(fail_under)]
    if missed:
        names = "; ".join(f"{row.target} {row.ours} vs {row.rival} {row.ratio:.2f}" for row in missed)
        raise WorkError(f"bench: {len(missed)} of {len(rows)} rows miss their {fail_under}: {names}")


def line(row: Row) -> str:
    """A human-readable row."""
    goal = f"  {row.target}: must {row.must:g}, goal {row.goal:g}" if row.must is not None and row.goal is not None else ""
    noisy = "" if 0.8 <= row.canary <= 1.25 else "  (noisy)"
    spread = f"{row.ratio_p20:.2f} to {row.ratio_p80:.2f}"
    memory = f"{row.ours_mb:.0f} MB vs {row.rival_mb:.0f}"
    return f"{row.name:44} {row.ours:24} vs {row.rival:24} {row.ratio:6.2f}× ({spread}), {memory}{goal}{noisy}"


def about() -> dict[str, object]:
    """What the numbers depend on."""
    return dataclasses.asdict(environment(torch.device("cpu"))) | {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "commit": machine.commit(),
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0],
        "copy_gb_s": copy_speed(),
    }


if __name__ == "__main__":
    bench(RESULTS / "cpu")
