"""How benchmarks report: rows on disk, limits that fail; no speed is tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ro_fast.benchmarks import run
from ro_fast.benchmarks.paired import paired, peak_mb
from ro_fast.errors import WorkError


def test_rows_are_written_and_a_missed_limit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows():
        a, b = ("ours", lambda: torch.ones(9)), ("theirs", lambda: torch.ones(9))
        yield paired("easy", a, b, seconds=0.01, target="T1", must=1e-9, goal=1e9)
        yield paired("without a target", a, b, seconds=0.01)

    monkeypatch.setattr(run, "GROUPS", {"some": rows})
    threads = torch.get_num_threads()
    try:
        run.bench(tmp_path, fail_under="must")
        with pytest.raises(WorkError, match="1 of 2 rows miss their goal: T1 ours vs theirs"):
            run.bench(tmp_path, ["some"], fail_under="goal")
    finally:
        torch.set_num_threads(threads)
    written = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [(row["name"], row["met"]) for row in written] == [("easy", True), ("without a target", None)]


def test_peak_is_what_is_held_at_once() -> None:
    def chain() -> torch.Tensor:
        x = torch.ones(1 << 20)  # 4 MB
        y = x + 1
        del x
        return y * 2

    assert peak_mb(chain) == pytest.approx(8, abs=0.1)
