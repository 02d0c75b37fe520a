"""``-m`` by Hydra's launchers: the runs of a sweep are done where the launcher runs them, and their errors are ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ro_fast.storage.run_folder import lock_of

SMALL = ("data=digits", "data.train_size=100", "data.test_size=50", "model.width=8", "attack.steps=1", "trainer.epochs=2")
LAUNCHERS = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit", "ray": "ray"}


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ro_fast", "train", "threads=1", *SMALL, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def losses(folder: Path) -> list[float]:
    """Of each epoch of each run of the sweep."""
    runs = sorted((folder / "outputs" / "train").glob("*/metrics.jsonl"))
    return [json.loads(line)["train_loss"] for run in runs for line in run.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_does_the_work(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(LAUNCHERS[launcher])
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    plain = train(tmp_path / "here", "-m", "seed=0,1")
    done = train(tmp_path / "there", "-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert plain.returncode == done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "here")) == 4 and losses(tmp_path / "here") == losses(tmp_path / "there")
    failed = train(tmp_path / "there", "-m", "seed=0,1", "data=npz", "data.path=nowhere.npz", f"hydra/launcher={launcher}")
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("ro-fast train: data.path=nowhere.npz does not exist")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_a_sweep_whose_worker_is_killed_is_continued_by_the_same_command(tmp_path: Path) -> None:
    pytest.importorskip(LAUNCHERS["joblib"])
    sweep = ("-m", "seed=0,1", "trainer.epochs=40", "hydra.launcher.n_jobs=2", "hydra/launcher=joblib")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "ro_fast", "train", "threads=1", *SMALL, *sweep]
    killed = subprocess.Popen(command, cwd=tmp_path / "killed", stderr=subprocess.PIPE, text=True)
    while killed.poll() is None and len(losses(tmp_path / "killed")) < 4:
        time.sleep(0.02)
    run = next((tmp_path / "killed" / "outputs" / "train").glob("*/metrics.jsonl")).parent
    owner = lock_of(run / ".lock").owner
    assert owner is not None and owner.pid != killed.pid
    os.kill(owner.pid, signal.SIGKILL)
    told = killed.communicate(timeout=120)[1]
    assert killed.returncode == 1 and "Traceback" not in told, told
    assert train(tmp_path / "killed", *sweep).returncode == 0
    assert train(tmp_path / "whole", *sweep).returncode == 0
    assert len(losses(tmp_path / "whole")) == 80 and losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "seed=0,1", "hydra/launcher=rq"], "rq is not installed; pip install hydra-rq-launcher; available: basic"),
        (["-m", "seed=0,1", "hydra/launcher=nope"], "hydra/launcher=nope is not installed; available: basic"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib starts the runs of a sweep; add -m"),
    ],
)
def test_a_launcher_that_is_not_there_is_told_before_anything_starts(arguments: list[str], words: str, tmp_path: Path) -> None:
    refused = train(tmp_path, *arguments)
    assert refused.returncode == 2 and words in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "outputs").exists()
