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
from ro_fast.storage.saving import writing

from . import machine
from .evaluation import evaluation_rows
from .mlps import mlp_rows
from .networks import network_rows
from .operators import operator_rows
from .paired import Row, copy_speed
from .targets import TARGETS, Missing, missing

RESULTS = Path(__file__).parent / "results"
GROUPS: dict[str, Callable[[], Iterator[Row | Missing]]] = {
    "operators": operator_rows,
    "mlps": mlp_rows,
    "evaluation": evaluation_rows,
    "networks": network_rows,
}


def bench(
    out: Path, groups: Sequence[str] = (), fail_under: str | None = None, allow_missing: Sequence[str] = ()
) -> None:
    """Measures the groups (all by default) on one thread and writes ``out/bench.json``.

    Args:
        out: folder of bench.json.
        groups: names of GROUPS.
        fail_under: "must" or "goal", to check the rows of targets.
        allow_missing: targets of which rows may be missing in that check.

    Raises:
        InputError: on an unknown group, limit or target, before anything is measured.
        WorkError: if a row misses its ``fail_under``, or a row of a target was not measured; all others are written by then.
    """
    for group in groups:
        if group not in GROUPS:
            raise InputError(f"groups: '{group}' is unknown; available: {', '.join(GROUPS)}")
    if fail_under not in (None, "must", "goal"):
        raise InputError(f"fail_under = {fail_under} is unknown; available: must, goal")
    for name in allow_missing:
        if name not in TARGETS:
            raise InputError(f"allow_missing: '{name}' is no target; available: {', '.join(TARGETS)}")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # otherwise the rivals' chains fault in their temporaries at every step, and ours, in place, don't
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    told: list[Missing] = []
    for group in groups or GROUPS:
        for row in GROUPS[group]():
            if isinstance(row, Missing):
                told.append(row)
                continue
            rows.append(row)
            print(line(row), flush=True)
            text = json.dumps({"about": about(), "rows": [r.as_json() for r in rows]}, indent=1, ensure_ascii=False)
            (out / "bench.json").write_text(text + "\n", encoding="utf-8")
    print(f"written to {out / 'bench.json'}")
    absent = list(missing(rows, groups or GROUPS, told))
    for target in absent:
        print(f"{target.target}: {target.reason}")
    if fail_under is not None:
        _check([row for row in rows if row.falls_short(fail_under)], len(rows), fail_under, absent, allow_missing)


def _check(missed: list[Row], rows: int, limit: str, absent: list[Missing], allowed: Sequence[str]) -> None:
    """Raises WorkError if a row misses its limit, or one that is not allowed to be missing is."""
    faults = []
    if missed:
        names = "; ".join(f"{row.target} {row.ours} vs {row.rival} {row.ratio:.2f}" for row in missed)
        faults.append(f"{len(missed)} of {rows} rows miss their {limit}: {names}")
    absent = [target for target in absent if target.target not in allowed]
    if absent:
        names = "; ".join(f"{target.target}, {target.reason}" for target in absent)
        let = ",".join([*allowed, *(target.target for target in absent)])
        faults.append(f"targets were not measured: {names} (allow_missing=[{let}] lets that pass)")
    if faults:
        raise WorkError(f"bench: {'; '.join(faults)}")


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
