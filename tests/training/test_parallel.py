"""Several processes that train one run take the steps of one process, up to rounding, and continue each other's runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.parallel_runs import RUNS, run
from helpers.parallel_runs import __file__ as SCRIPT

from ro_fast.cli import compose
from ro_fast.errors import InputError
from ro_fast.storage.run_folder import lock_of
from ro_fast.suite.plan import plan

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


def together(count: int, epochs: int, *folders: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", SCRIPT]
    done = subprocess.run([*command, str(epochs), *map(str, folders)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Parameters and BatchNorm's statistics, and the number of batches that they saw."""
    return torch.load(folder / name / "last.pt", weights_only=True)["model"]


@pytest.mark.slow
def test_two_and_four_processes_take_the_steps_of_one_and_continue_each_other(tmp_path: Path) -> None:
    together(2, 3, tmp_path / "two")
    together(4, 2, tmp_path / "begun")
    together(2, 3, tmp_path / "four", tmp_path / "begun")  # continues what four have begun
    before = torch.get_default_dtype()
    try:
        for name in RUNS:
            run(name, 3, tmp_path / "one")  # 21 steps
            for key, alone in weights(tmp_path / "one", name).items():
                for folder in ("two", "four"):
                    difference = (weights(tmp_path / folder, name)[key] - alone).double().norm()
                    assert difference <= 1e-12 * alone.double().norm().clamp(min=1e-3), (name, folder, key)
    finally:
        torch.set_default_dtype(before)
    lines = [json.loads(line) for line in (tmp_path / "four" / "plain" / "metrics.jsonl").read_text().splitlines()]
    ours = [json.loads(line) for line in (tmp_path / "one" / "plain" / "metrics.jsonl").read_text().splitlines()]
    assert [line["world_size"] for line in lines] == [4, 4, 2] and {line["world_size"] for line in ours} == {1}
    assert json.loads((tmp_path / "begun" / "plain" / "environment.json").read_text())["world_size"] == 4
    for key in ("test_robust_acc", "val_robust_acc", "train_robust_acc", "small_loss_share"):
        assert [line[key] for line in lines] == pytest.approx([line[key] for line in ours], abs=1e-12)


SMALL = ("data=digits", "data.train_size=200", "data.test_size=50", "model.width=8", "trainer.epochs=30", "threads=1")


@pytest.mark.slow
def test_all_end_when_one_is_killed_and_the_same_command_continues(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ro_fast", "train", *SMALL, "nproc=2", f"out={tmp_path / 'run'}"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline and started.poll() is None:
        time.sleep(0.05)
    owner = lock_of(tmp_path / "run" / ".lock").owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    told = started.communicate(timeout=120)[1]
    assert started.returncode == 1 and "Traceback" not in told
    assert "process 0 of 2 was ended by SIGKILL" in told.splitlines()[-1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.count("robust test accuracy") == 1, done.stderr[-2000:]
    assert len(metrics.read_text().splitlines()) == 30
    refused = subprocess.run([*command, "trainer.lr=0.3"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and refused.stderr.count("holds another run (trainer.lr") == 1, refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_several_processes_cannot_do_is_told_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ro_fast", "train", *SMALL, "nproc=2", "method=gairat", f"out={tmp_path / 'run'}"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "train it with nproc=1" in refused.stderr.splitlines()[-1], refused.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="nproc=2 is for a single run"):
        plan(compose("ablate", ["nproc=2", f"out={tmp_path}"]))
