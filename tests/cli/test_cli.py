"""The command line: what a user types, what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ro_fast.cli import run
from ro_fast.cli.compose import composed
from ro_fast.errors import InputError

pytest.importorskip("hydra")

TINY = ["data.train_size=100", "data.test_size=50", "model.width=4", "attack.steps=1", "trainer.epochs=4", "threads=1"]


def ro_fast(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ro_fast", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


COMMANDS = ("train", "ablate", "evaluate", "watch", "check", "prototype", "export", "report", "bench", "doctor", "build")


def test_commands_are_listed(tmp_path: Path) -> None:
    bare, help = ro_fast(cwd=tmp_path), ro_fast("--help", cwd=tmp_path)
    assert bare.returncode == help.returncode == 0
    assert bare.stdout == help.stdout
    assert all(f"\n  {name} " in bare.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_hydra_app(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for flags in (["--help"], ["--cfg", "job"]):
        code, said = run([command, *flags]), capsys.readouterr()
        assert (code, said.err) == (0, ""), said.err
        assert flags != ["--help"] or said.out.startswith(f"ro-fast {command}")
    assert list(tmp_path.iterdir()) == []


def test_paths_may_have_spaces_and_any_letters(tmp_path: Path) -> None:
    result = ro_fast("check", "data=folder", "data.path=写真 1/it's", cwd=tmp_path)
    assert result.returncode == 2 and "写真 1/it's" in result.stderr, result.stderr


def test_ablate_end_to_end(tmp_path: Path) -> None:
    result = ro_fast("ablate", *TINY, "seeds=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = tmp_path / "outputs" / "ablate" / "factors-digits_noisy"
    results = json.loads((out / "results.json").read_text())
    assert [len(arm["seeds"]) for arm in results["arms"]] == [2] * 10
    assert results["finding"]["sentences"][0] in result.stdout
    page = out / "report.html"
    assert results["finding"]["sentences"][0].split(",")[0] in page.read_text(encoding="utf-8")
    assert len(list((out / "figures").glob("*.png"))) >= 3
    assert "epoch 4/4" in result.stderr and "left" in result.stderr
    page.unlink()
    assert ro_fast("report", f"run={out}", cwd=tmp_path).returncode == 0 and page.exists()


def test_watch_tells_and_draws(tmp_path: Path) -> None:
    curve = Path(__file__).parents[1] / "overfitting/curves/cifar10_wide__wideresnet_10.csv"
    result = ro_fast("watch", f"curve={curve}", "out=pictures/wide.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("robust overfitting since epoch 101") and "gap 8.2 points" in result.stdout
    assert (tmp_path / "pictures/wide.png").stat().st_size > 10_000
    for arguments in ([], ["curve=none.csv"], [f"curve={curve}", "column=acc"], [f"curve={curve}", "out=picture"]):
        bad = ro_fast("watch", *arguments, cwd=tmp_path)
        assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and bad.stderr.startswith("ro-fast watch: "), bad.stderr


def test_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = ["train", *TINY[:-2], "trainer.epochs=500", "threads=1", "out=run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ro_fast", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell's background jobs ignore Ctrl-C and pass that on; the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "run" / "last.pt").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].endswith(f"ro-fast {' '.join(arguments)}")


def npz(path: Path, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.random((60, 1, 8, 8), dtype=np.float32) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.arange(60) % 3 for part in ("train", "test")}
    np.savez(path / "data.npz", **(arrays | changes))
    return f"data.path={path / 'data.npz'}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.full((60, 1, 8, 8), 2.0, np.float32)}, "[0, 1]"),
        ({"x_train": np.full((60, 1, 8, 8), np.nan, np.float32)}, "NaN"),
        ({"y_train": np.full(60, -1)}, "-1"),
        ({"y_test": np.arange(60) % 3 + 7}, "9"),
        ({"x_test": np.zeros((60, 1, 9, 9), np.float32)}, "9"),
        ({"y_train": np.linspace(0, 2, 60)}, "labels must be whole numbers"),
        ({"x_train": np.zeros((60, 1, 8, 8), np.complex64)}, "complex64"),
    ],
    ids=["range", "nan", "negative label", "label beyond train", "shape", "label dtype", "image dtype"],
)
def test_bad_data_is_one_line_and_exit_2(changes: dict, words: str, tmp_path: Path) -> None:
    result = ro_fast("train", "data=npz", npz(tmp_path, **changes), "out=run", cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and words in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "train, ablate"),
        (["bench", "groups=[warp]"], "operators, mlps, evaluation, networks"),
        (["bench", "fail_under=should"], "must, goal"),
        (["train", "foo=1"], "foo"),
        (["train", "trainer.foo=1"], "foo"),
        (["train", "seed=abc"], "abc"),
        (["train", "data=imagenet"], "fashion_mnist"),
        (["train", "method=magic"], "attack_strength"),
        (["train", "attack.eps=8"], "8/255"),
        (["train", "attack.eps=-0.1"], "at least 0"),
        (["train", "data=npz", "data.path=nowhere.npz"], "nowhere.npz"),
        (["train", "data=cifar10"], "data.path"),
        (["train", "method=perturbation", "method.eps_ratio=2"], "eps_ratio"),
        (["train", "x"], "key=value"),
        (["train", "--fly"], "--help"),
        (["report", "run=nowhere"], "nowhere"),
        (["report"], "run=PATH"),
        (["evaluate"], "checkpoint= is not given"),
        (["evaluate", "checkpoint=nowhere"], "nowhere does not exist"),
        (["export", "checkpoint=nowhere"], "nowhere does not exist"),
        (["ablate", "seeds=none"], "seeds"),
        (["doctor", "x=1"], "x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list, words: str, tmp_path: Path) -> None:
    result = ro_fast(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    if arguments[1:] != ["--fly"]:
        assert len(result.stderr.splitlines()) == 1


def test_debug_shows_where(tmp_path: Path) -> None:
    environment = os.environ | {"RO_FAST_DEBUG": "1"}
    command = [sys.executable, "-m", "ro_fast", "train", "attack.eps=8"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert "Traceback" in result.stderr


def test_help_fits_a_screen_and_says_more_where_it_is_asked(tmp_path: Path) -> None:
    from ro_fast.cli import COMMANDS
    from ro_fast.cli.help import choices, descriptions, help_text

    for name, command in COMMANDS.items():
        overview = help_text(name, "", []).splitlines()
        assert len(overview) <= 40 and max(map(len, overview)) <= 110, name
        if command.schema is not None:  # every key has a description, and the whole help names it
            about, everything = descriptions(command.schema), help_text(name, "all", [])
            assert all(about.values()) and all(key in everything for key in about)
    assert "trainer.lr_drops" in help_text("ablate", "trainer", [])
    assert all(f"suite={name}" in help_text("ablate", "suite", []) for name in choices("suite"))
    assert "[0.5]" in help_text("train", "trainer.lr", ["trainer.lr=0.5"])
    assert "kappa" in ro_fast("train", "--help", "method=gairat", cwd=tmp_path).stdout
    unknown = ro_fast("train", "--help", "warp", cwd=tmp_path)
    assert unknown.returncode == 2 and "--help=all" in unknown.stderr and unknown.stderr.count("\n") == 1


def test_a_sweep_is_one_configuration_for_each_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = composed("train", ["-m", "seed=0,1", "data=digits,tops", "trainer.lr_drops=[0.5,0.75]", "out=run-${seed}"])
    assert [(c.seed, c.data.name, c.out) for c in sweep] == [
        (0, "digits", "run-0"), (0, "tops", "run-0"), (1, "digits", "run-1"), (1, "tops", "run-1")
    ]  # fmt: skip
    with pytest.raises(InputError, match="seed = x should be a whole number"):
        composed("train", ["-m", "seed=0,x"])
    with pytest.raises(InputError, match="seed = 0,1 should be a whole number"):
        composed("train", ["seed=0,1"])
