"""Metrics in TensorBoard and W&B: each epoch once, whatever happened to the run, with all digits unchanged."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest
import torch

from ro_fast.config import TrainConfig, changed
from ro_fast.errors import InputError, WorkError
from ro_fast.suite.plan import _prefix_of
from ro_fast.training.loggers import scalars
from ro_fast.training.trainer import train


def small(out: Path, **changes: object) -> TrainConfig:
    sizes = {"data.train_size": 100, "data.test_size": 50, "model.width": 4, "attack.steps": 1, "trainer.epochs": 3}
    config = changed(TrainConfig(out=str(out), threads=1), sizes)
    return changed(config, {key.replace("__", "."): value for key, value in changes.items()})


def told_by_tensorboard(out: Path) -> list[tuple[int, float]]:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("test_robust_acc")]


def told_by_wandb(out: Path) -> list[tuple[int, float]]:
    """Reads the run's one offline file: a header of 7 bytes, then blocks of 32 KiB of (crc, length, type, part of a record)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = out.glob("wandb/offline-run-*/*.wandb")
    data, at, whole, told = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record, whole = Record.FromString(whole), b""
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            if items:
                told.append((items["_step"], items["test_robust_acc"]))
    return told


@pytest.fixture(params=["tensorboard", "wandb"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip(request.param)
    for name in ("CACHE", "CONFIG", "DATA"):  # W&B keeps its own logs in the user's folders
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "user"))
    return request.param


def told(log: str, out: Path, epochs: int) -> list[tuple[int, float]]:
    """The contents of the log, once it has that many epochs: W&B's service keeps writing briefly after a run's end."""
    read = {"tensorboard": told_by_tensorboard, "wandb": told_by_wandb}[log]
    give_up = time.monotonic() + 30
    while len(read(out)) < epochs and time.monotonic() < give_up:
        time.sleep(0.05)
    return read(out)


def test_each_epoch_once_after_a_stop_in_the_middle_and_no_digit_changed(log: str, tmp_path: Path) -> None:
    def stop_after_two(event: object) -> None:
        if event.epoch == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    plain = train(small(tmp_path / "plain"))
    out = tmp_path / "logged"
    with pytest.raises(KeyboardInterrupt):
        train(small(out, trainer__log=[log]), stop_after_two)
    assert [step for step, _ in told(log, out, 2)] == [0, 1]
    history = train(small(out, trainer__log=[log]))
    for _ in range(2):
        steps, values = zip(*told(log, out, 3), strict=True)
        assert steps == (0, 1, 2)
        assert values == pytest.approx([epoch.test_robust_acc for epoch in history])
        train(small(out, trainer__log=[log]))  # already done
    assert [epoch.train_loss for epoch in history] == [epoch.train_loss for epoch in plain]
    # Switched on for a run that was trained without it, and off again.
    train(small(tmp_path / "plain", trainer__log=[log]))
    assert told(log, tmp_path / "plain", 3) == told(log, out, 3)
    train(small(tmp_path / "plain"))


def test_prefixes_are_the_same_with_and_without_a_log(tmp_path: Path) -> None:
    plain, logging = small(tmp_path), small(tmp_path, trainer__log=["wandb"])
    a, b = (_prefix_of(config, 1, tmp_path, torch.device("cpu")) for config in (plain, logging))
    assert a == b


def test_numbers_of_features_are_told_under_their_path() -> None:
    line = {"epoch": 1, "val": 0.5, "features": {"stage1": {"natural": {"rank": 2}}}, "ok": True, "name": "x"}
    assert scalars(line) == {"val": 0.5, "features/stage1/natural/rank": 2}


def test_what_can_not_be_logged_to_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"'mlflow', which is unknown; available: tensorboard, wandb"):
        train(small(out, trainer__log=["mlflow"]))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'wandb', which is not installed: pip install wandb"):
        train(small(out, trainer__log=["wandb"]))
    assert not out.exists()


def test_a_full_disk_stops_the_run_with_its_state_kept(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ro_fast.training import loggers

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loggers.BACKENDS[log], "write", full)
    with pytest.raises(WorkError, match=r"run can't be written \(No space left on device\); free some space"):
        train(small(tmp_path / "run", trainer__log=[log]))
    monkeypatch.undo()
    assert len(train(small(tmp_path / "run"))) == 3
