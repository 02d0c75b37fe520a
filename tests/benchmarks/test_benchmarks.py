"""How benchmarks report: rows on disk, limits that fail; speed is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
import torch

from ro_fast.benchmarks import evaluation, run, targets
from ro_fast.benchmarks.gpu import __main__ as gpu
from ro_fast.benchmarks.gpu import drop_in
from ro_fast.benchmarks.gpu.rows import Rows, read
from ro_fast.benchmarks.gpu.session import DeviceLost, Session
from ro_fast.benchmarks.gpu.targets import TARGETS
from ro_fast.benchmarks.paired import paired, peak_mb
from ro_fast.errors import InputError, WorkError


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


def test_a_target_that_was_not_measured_fails_unless_it_is_allowed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows():
        yield paired("one", ("ours", lambda: torch.ones(9)), ("theirs", lambda: torch.ones(9)), seconds=0.01, target="T1", must=0)
        yield targets.Missing("T2", "there is no data")

    groups = {"some": rows, "silent": lambda: iter(())}
    monkeypatch.setattr(run, "GROUPS", groups)
    known = {"T1": targets.Target("some", 2), "T2": targets.Target("some", 1), "T3": targets.Target("silent", 1)}
    monkeypatch.setattr(targets, "TARGETS", known)
    monkeypatch.setattr(run, "TARGETS", known)
    threads = torch.get_num_threads()
    try:
        run.bench(tmp_path)
        assert "T2: 0 of 1 rows measured: there is no data" in capsys.readouterr().out
        words = r"T1, 1 of 2 rows .*T2, 0 of 1 rows measured: there is no data .*allow_missing=\[T1,T2\]"
        with pytest.raises(WorkError, match=words):
            run.bench(tmp_path, ["some"], "must")
        with pytest.raises(WorkError, match="T3, 0 of 1 rows measured: its group does not say why"):
            run.bench(tmp_path, fail_under="goal", allow_missing=["T1", "T2"])
        run.bench(tmp_path, fail_under="must", allow_missing=["T1", "T2", "T3"])
        with pytest.raises(InputError, match="'T4' is no target; available: T1, T2, T3"):
            run.bench(tmp_path, allow_missing=["T4"])
    finally:
        torch.set_num_threads(threads)


def test_evaluation_without_data_says_which_target_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(config: object) -> None:
        raise InputError("there is no Fashion-MNIST")

    monkeypatch.setattr(evaluation, "load_data", nothing)
    assert list(evaluation.evaluation_rows()) == [targets.Missing("C8", "there is no Fashion-MNIST")]


def test_the_list_of_targets_has_the_rows_that_were_measured() -> None:
    stored = json.loads((run.RESULTS / "cpu" / "bench.json").read_text(encoding="utf-8"))["rows"]
    measured = Counter(row["target"] for row in stored if row["target"] is not None)
    assert measured and measured == {name: targets.TARGETS[name].rows for name in measured}
    assert {target.group for target in targets.TARGETS.values()} <= set(run.GROUPS)


def test_peak_is_what_is_held_at_once() -> None:
    def chain() -> torch.Tensor:
        x = torch.ones(1 << 20)  # 4 MB
        y = x + 1
        del x
        return y * 2

    assert peak_mb(chain) == pytest.approx(8, abs=0.1)


# -- on a GPU ----------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_all_that_is_measured_on_a_gpu_runs_dry_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("torchattacks")
    environment = os.environ | {"OUT": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "benchmarks/on_gpu.sh"), "--dry"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(read(tmp_path / "gpu.jsonl"))
    assert [row for row in rows if row["kind"] in ("error", "skipped")] == []
    assert gpu.missing(rows, set(gpu.GROUPS)) == []
    ended = [row["name"] for row in rows if row["kind"] == "end"]
    assert ended == [f"{group}.{name}" for group, (measurements, _) in gpu.GROUPS.items() for name in measurements]
    for row in rows:
        assert row["dry"] and row["device"] == "cpu" and row["torch"] == torch.__version__ and {"driver", "commit"} <= row.keys()
        if row["kind"] == "target":
            assert row["measured"] >= 0 and row["met"] is None and (row["must"] or row["goal"])


CHILD = """
import json, os, sys, time
path, *names = sys.argv[1:]
for name in names:
    if name == "dies":
        os.abort()
    if name == "hangs":
        time.sleep(60)
    open(path, "a").write(json.dumps({"kind": "end", "name": name}) + "\\n")
"""


def test_a_process_that_dies_or_hangs_costs_the_measurement_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(tmp_path / "gpu.jsonl", "cpu", dry=True)
    monkeypatch.setattr(gpu, "GRACE", 0.0)

    def command(names: list[str], seconds: float) -> list[str]:
        return [sys.executable, "-c", CHILD, str(rows.path), *names]

    rows.put("end", "late")  # from an earlier run
    gpu.apart(command, ["first", "dies", "after", "hangs", "late"], rows, 3.0)
    found = [(row["kind"], row["name"]) for row in read(rows.path)][1:]
    assert found == [("end", "first"), ("error", "dies"), ("end", "after"), ("error", "hangs"), ("skipped", "late")]


def test_a_contender_that_fails_drops_out_and_its_target_says_so(tmp_path: Path) -> None:
    session = Session(Rows(tmp_path / "gpu.jsonl", "cpu", dry=True), dry=True)

    def fails() -> None:
        raise ValueError("no such kernel")

    times = session.race("some", {"ours": lambda: None, "theirs": lambda: None, "broken": fails})
    session.faster("G1", "some", times, "ours", "theirs")
    session.faster("G2", "some", times, "ours", "broken")
    rows = list(read(tmp_path / "gpu.jsonl"))
    assert [row["kind"] for row in rows] == ["error", "time", "time", "target", "error"]
    assert "ValueError: no such kernel" in rows[0]["error"] and "G2 has no row: there is no time of broken" in rows[-1]["error"]
    assert (rows[3]["id"], rows[3]["must"], rows[3]["goal"]) == ("G1", 7, 11)
    assert gpu.missing(rows, {"attacks"}) == ["G2", "G3/128", "G3/512", "G9/attack"]
    assert gpu.verdicts(rows, set()) == 1 and gpu.verdicts(rows[1:4], set()) == 0


def test_what_is_called_on_a_gpu_alone_is_called_rightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for torch.cuda, whose names must exist: events, streams, graphs and memory counters."""
    cuda = mock.MagicMock()
    cuda.Event.return_value.elapsed_time.return_value = 2.5
    cuda.memory_allocated.return_value, cuda.memory_reserved.return_value = 2**20, 2**21
    cuda.max_memory_allocated.return_value, cuda.max_memory_reserved.return_value = 3 * 2**20, 6 * 2**20
    used = ("Event", "Stream", "current_stream", "stream", "CUDAGraph", "graph", "synchronize", "empty_cache")
    counts = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved", "reset_peak_memory_stats")
    for name in used + counts:
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    session, ran = Session(Rows(tmp_path / "gpu.jsonl", "cpu", dry=False), dry=False), []

    def run() -> torch.Tensor:
        ran.append(1)
        return torch.ones(2)

    flush = torch.ones(3)
    assert session.milliseconds(run, flush) == 2.5 and flush.sum() == 0
    assert session.median(run, rounds=4) == 2.5 and len(ran) == 1 + 3 + 4
    assert session.race("some", {"a": run, "b": run}, rounds=3) == {"a": [2.5] * 3, "b": [2.5] * 3}
    assert session.memory("some", lambda: run) == 4
    replay = session.captured(run)
    before = len(ran)
    assert replay() is not replay() and len(ran) == before and cuda.CUDAGraph.return_value.replay.call_count == 2
    cuda.synchronize.side_effect = RuntimeError("an illegal memory access was encountered")
    with pytest.raises(DeviceLost, match="illegal memory access"):
        session.race("some", {"a": lambda: torch.ones(2) @ torch.ones(3)})
    assert [row["kind"] for row in read(tmp_path / "gpu.jsonl")] == ["time", "time", "memory", "error"]


def test_a_process_that_lost_the_device_says_so_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(session: Session) -> None:
        raise DeviceLost("an illegal memory access was encountered")

    monkeypatch.setattr(gpu, "GROUPS", {"some": ({"first": lambda session: None, "lost": lost, "after": lost}, 9.0)})
    assert gpu.main(["--dry", "--here", "9", "--out", str(tmp_path)]) == gpu.LOST
    assert [(row["kind"], row["name"]) for row in read(tmp_path / "gpu.jsonl")] == [("end", "some.first"), ("error", "some.lost")]


def test_models_that_a_user_drops_in_are_listed_and_built_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision, timm = mock.MagicMock(), mock.MagicMock()
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "timm", timm)
    listed = list(drop_in.models(Session(Rows(tmp_path / "gpu.jsonl", "cpu", dry=False), dry=False)))
    assert len(listed) == len({name for name, _, _ in listed}) == 69 and torchvision.models.get_model.call_count == 0
    for _, build, _ in listed:
        build()
    assert torchvision.models.get_model.call_count == 23 and timm.create_model.call_count == 46
    googlenet = mock.call("googlenet", weights=None, init_weights=False, aux_logits=False)
    assert torchvision.models.get_model.call_args_list[18] == googlenet


def test_targets_are_met_from_the_right_side() -> None:
    assert TARGETS["G1"].met(7) and not TARGETS["G1"].met(6.9)
    assert TARGETS["G4"].met(8.5) and not TARGETS["G4"].met(8.6)
    assert TARGETS["G11/mean"].met(0.1) is None
    assert {target.group for target in TARGETS.values()} == set(gpu.GROUPS)
    for target in TARGETS.values():
        assert None in (target.must, target.goal) or (target.must >= target.goal if target.lower else target.must <= target.goal)


def test_without_a_gpu_it_says_how_to_try_it_and_knows_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.main(["--out", str(tmp_path)])
        assert "torch sees no GPU here; --dry" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["attack", "--dry"])
    assert "'attack' is unknown; available: attacks, training" in capsys.readouterr().err
