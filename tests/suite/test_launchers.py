"""A suite whose runs are done elsewhere ends in the same results, also after the machine that does one of them is lost."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.suites import begun, line

from ro_fast.cli import compose
from ro_fast.errors import InputError
from ro_fast.findings.study import read_results
from ro_fast.storage.run_folder import lock_of
from ro_fast.suite.plan import plan
from ro_fast.suite.run import ablate

LAUNCHERS = {"submitit": ["launcher=submitit", "launcher.cluster=local", "jobs=2"], "ray": ["launcher=ray"]}


def numbers(folder: Path) -> list[object]:
    """What the suite found, without how long it took."""
    arms = read_results(folder).arms
    return [(arm.name, arm.ro_gap, arm.last_robust_acc, [seed.best_epoch for seed in arm.seeds]) for arm in arms]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_is_killed_is_named_and_the_same_command_continues(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(launcher)
    killed = begun(tmp_path / "killed", "pure", *LAUNCHERS[launcher])
    owner = lock_of(tmp_path / "killed" / "runs" / "pure" / "seed0" / ".lock").owner
    assert owner is not None and Path(f"/proc/{owner.pid}/stat").read_text().split()[3] != str(killed.pid)
    os.kill(owner.pid, signal.SIGKILL)
    told = killed.communicate(timeout=240)[1]
    assert killed.returncode == 1 and "Traceback" not in told
    assert "pure, seed 0: " in told.splitlines()[-1] and "ended without a result" in told.splitlines()[-1]

    continued = begun(tmp_path / "killed", "pure", *LAUNCHERS[launcher])
    told = continued.communicate(timeout=240)[1]
    assert continued.returncode == 0, told
    assert "[40/40]" in told and "[41/40]" not in told  # twenty epochs of two arms, each told once
    ablate(compose("ablate", [*line(tmp_path / "whole"), "jobs=1"]))
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_suites_swept_by_joblib_end_in_the_same_results_though_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ("-m", "seed=0,1", "jobs=1", f"out={tmp_path}/killed${{seed}}", "hydra/launcher=joblib")
    command = [sys.executable, "-m", "ro_fast", "ablate", *line(tmp_path), *sweep]
    lock, metrics = (tmp_path / "killed0" / "runs" / "pure" / "seed0" / name for name in (".lock", "metrics.jsonl"))
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while killed.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        time.sleep(0.01)
    owner = lock_of(lock).owner
    assert owner is not None and owner.pid != killed.pid
    os.kill(owner.pid, signal.SIGKILL)
    told = killed.communicate(timeout=120)[1]
    assert killed.returncode == 1 and "Traceback" not in told, told
    assert subprocess.run(command, capture_output=True, timeout=240).returncode == 0
    for seed in (0, 1):
        ablate(compose("ablate", [*line(tmp_path / f"whole{seed}"), "jobs=1", f"seed={seed}"]))
        assert numbers(tmp_path / f"killed{seed}") == numbers(tmp_path / f"whole{seed}")


@pytest.mark.slow
def test_jobs_outlive_a_command_that_is_killed_and_the_same_command_waits_for_them(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    killed = begun(tmp_path / "killed", "pure", *LAUNCHERS["submitit"])
    killed.kill()
    killed.communicate(timeout=60)
    again = begun(tmp_path / "killed", "pure", *LAUNCHERS["submitit"])
    told = again.communicate(timeout=240)[1]
    assert again.returncode == 0, told
    for arm in ("baseline", "pure"):
        epochs = (tmp_path / "killed" / "runs" / arm / "seed0" / "metrics.jsonl").read_text().splitlines()
        assert len(epochs) == 20
    ablate(compose("ablate", [*line(tmp_path / "whole"), "jobs=1"]))
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


@pytest.mark.parametrize("launcher", ["submitit", "ray"])
def test_a_launcher_that_is_not_installed_is_told_before_anything_starts(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, launcher, None)
    with pytest.raises(InputError, match=rf"launcher={launcher} needs {launcher}: pip install"):
        ablate(compose("ablate", [*line(tmp_path / "suite"), f"launcher={launcher}"]))
    assert not (tmp_path / "suite" / "runs").exists()


def test_a_suite_is_planned_for_gpus_that_only_its_runs_have(tmp_path: Path) -> None:
    arguments = [*line(tmp_path / "suite"), "launcher=submitit"]
    on_gpu, on_cpu = (plan(compose("ablate", [*arguments, f"launcher.gpus={gpus}"])) for gpus in (1, 0))
    assert on_gpu[0].prefix.out != on_cpu[0].prefix.out and on_gpu[0].config == on_cpu[0].config
    with pytest.raises(InputError, match=r"device=cuda, but launcher=submitit gives the runs no GPU; give launcher\.gpus=1"):
        plan(compose("ablate", [*arguments, "device=cuda"]))


@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
def test_what_a_cluster_lacks_is_told_before_anything_starts(tmp_path: Path) -> None:
    arguments = [*line(tmp_path / "suite"), "launcher=submitit"]
    with pytest.raises(InputError, match=r"there is no SLURM here .*launcher\.cluster=local"):
        ablate(compose("ablate", arguments))
    with pytest.raises(InputError, match=r"launcher\.gpus=64, but torch sees"):
        ablate(compose("ablate", [*arguments, "launcher.cluster=local", "launcher.gpus=64"]))
