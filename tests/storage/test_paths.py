"""Paths that are no files and names that would lead elsewhere are refused, before anything is read or written."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.runs import small as tiny_run
from helpers.suites import small

from ro_fast.cli import run
from ro_fast.config import ArmConfig
from ro_fast.errors import InputError
from ro_fast.evaluation.load import load_model
from ro_fast.overfitting.curve_files import read_curve
from ro_fast.protocol.protocol import read_protocol
from ro_fast.storage.paths import given_file, part_of_path
from ro_fast.suite.plan import plan
from ro_fast.training.trainer import train


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    return {name: Path(name) for name in ("pipe", "circle", "folder", "socket")} | {"device": Path("/dev/zero")}


def test_what_is_no_file_is_named(odd: dict[str, Path]) -> None:
    for kind, path in odd.items():
        said = "can't be read (Too many levels of symbolic links)" if kind == "circle" else f"is a {kind};"
        with pytest.raises(InputError) as error:
            given_file(path, f"curve={path}")
        assert said in str(error.value) and "the path of a file is needed" in str(error.value)
    with pytest.raises(InputError, match="does not exist"):
        given_file(Path("nothing"), "curve=nothing")


@pytest.mark.parametrize("read", [read_curve, read_protocol, load_model])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "circle"])
def test_nothing_waits_for_a_pipe(odd: dict[str, Path], kind: str, read) -> None:
    with pytest.raises(InputError):
        read(odd[kind])


NAMES = ["", " ", ".", "..", "../up", "/absolute", "a\\b", "line\nbreak", "bell\x07", "x" * 300, "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    config = small(tmp_path)
    config.suite = replace(config.suite, arms=[ArmConfig("baseline"), ArmConfig(name)])
    with pytest.raises(InputError, match=r"becomes th.* folder") as error:
        plan(config)
    assert str(error.value).isprintable() and len(str(error.value)) < 200


def test_other_names_are_taken() -> None:
    for name in ("small loss", "東京", "a.b-c_d", "…"):
        assert part_of_path(name, "arm") == name


def test_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    """A folder with files of another kind is left as it is, whatever the command; its own is continued."""
    data = ["data=digits", "data.train_size=100", "data.test_size=50"]
    tiny = ["model.width=4", "attack.steps=1", "trainer.epochs=1", "threads=1"]
    commands = {
        "train": ([*data, *tiny], ["config.yaml", "metrics.jsonl", "last.pt"]),
        "ablate": ([*data, *tiny, "seeds=1", "jobs=1", f"prefixes={tmp_path / 'prefixes'}"], ["results.json", "report.html"]),
        "check": (data, ["check.html"]),
        "protocol": ([*data, "robust=0.5"], ["protocol.html"]),
    }
    for command, (arguments, files) in commands.items():
        for name in files:
            place = tmp_path / command / name
            place.mkdir(parents=True)
            (place / name).write_text("mine")
            assert run([command, *arguments, f"out={place}"]) == 2
            assert [path.name for path in place.iterdir()] == [name] and (place / name).read_text() == "mine"
        assert run([command, *arguments, "out="]) == 2


def test_a_check_of_other_data_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "data.train_size=60", "data.test_size=50", f"out={tmp_path}"]
    assert run([*command, "data=digits"]) == run([*command, "data=digits"]) == 0
    before = (tmp_path / "check.json").read_bytes()
    assert run([*command, "data=digits_noisy"]) == 2
    assert "is the check of data=digits; choose another out=" in capsys.readouterr().err
    assert (tmp_path / "check.json").read_bytes() == before


def test_an_evaluation_leaves_files_of_others_alone(tmp_path: Path) -> None:
    train(tiny_run(tmp_path / "run"))
    command = ["evaluate", f"checkpoint={tmp_path / 'run'}", "level=quick", "samples=20", "queries=5", "masking=false"]
    for name in ("evaluation.html", "evaluation.json", "evaluation.png"):
        (tmp_path / name / name).parent.mkdir()
        (tmp_path / name / name).write_text("mine")
        assert run([*command, f"out={tmp_path / name}"]) == 2
        assert [path.name for path in (tmp_path / name).iterdir()] == [name] and (tmp_path / name / name).read_text() == "mine"
    out = tmp_path / "own"
    assert run([*command, f"out={out}"]) == run([*command, f"out={out}"]) == 0
    for stage in out.glob("stages-*.pt"):
        stage.unlink()
    assert run([*command, f"out={out}"]) == 0  # done anew


def test_an_export_leaves_a_readme_alone(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    train(tiny_run(tmp_path / "run"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert run(["export", f"checkpoint={tmp_path / 'run'}", f"out={tmp_path / 'mine'}"]) == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["README.md"]
    for _ in range(2):
        assert run(["export", f"checkpoint={tmp_path / 'run'}", f"out={tmp_path / 'new'}"]) == 0
