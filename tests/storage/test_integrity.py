"""What was changed on disk is noticed: states, records and what is rebuilt from them."""

from __future__ import annotations

import functools
import json
import operator
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.runs import small, without_seconds

from ro_fast.errors import InputError
from ro_fast.evaluation.load import load_model
from ro_fast.storage import checkpoint, records
from ro_fast.training.trainer import train

FLIPS = 150


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def flipped(path: Path, to: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    to.write_bytes(content)


def test_a_flipped_bit_of_a_state_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """torch itself takes a quarter of such files, with other weights."""
    state = {"model": {"weight": torch.randn(50, 40)}, "epoch": 3, "history": [{"loss": 0.1}], "identity": {"seed": 0}}
    checkpoint.save(tmp_path / "last.pt", state)
    draw, said = random.Random(0), []
    for _ in range(FLIPS):
        flipped(tmp_path / "last.pt", tmp_path / "flipped.pt", draw)
        try:
            found = checkpoint.load(tmp_path / "flipped.pt")
        except InputError as error:
            said.append(str(error))
        else:
            assert same({**state, "format": found["format"]}, found)
    assert len(said) > FLIPS // 2
    assert not [text for text in said if "flipped.pt" not in text or "weights_only" in text or "\n" in text]


@dataclass
class Result:
    acc: float
    names: list[str]


def test_a_changed_record_is_refused_and_one_without_a_digest_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    records.write(path, Result(0.1 + 0.2, ["é", "日本"]))
    assert records.read(Result, path, "") == Result(0.1 + 0.2, ["é", "日本"])
    path.write_text(path.read_text(encoding="utf-8").replace("0.30000000000000004", "0.40000000000000004"), encoding="utf-8")
    with pytest.raises(InputError, match=r"result.json .*it was changed after it was written"):
        records.read(Result, path, "run it again")
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["digest"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert records.read(Result, path, "").acc == 0.40000000000000004


def test_a_run_goes_on_from_its_best_state_if_the_last_is_gone(tmp_path: Path) -> None:
    whole = train(small(tmp_path / "whole"))
    train(small(tmp_path / "part"))
    assert checkpoint.load(tmp_path / "part" / "best.pt")["epoch"] > 1
    (tmp_path / "part" / "last.pt").unlink()
    heard: list = []
    again = train(small(tmp_path / "part"), heard.append)
    assert without_seconds(again) == without_seconds(whole) and len(heard) < len(whole)


def test_a_damaged_last_state_names_what_can_be_taken_instead(tmp_path: Path) -> None:
    whole = train(small(tmp_path))
    last = tmp_path / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 16
    last.write_bytes(content)
    with pytest.raises(InputError, match=r"last\.pt is damaged: .*continues from best\.pt"):
        train(small(tmp_path))
    with pytest.raises(InputError, match=r"last\.pt is damaged"):
        load_model(last, "small_cnn")
    last.unlink()
    assert without_seconds(train(small(tmp_path))) == without_seconds(whole)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train(small(out))
    return out


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("robust_images", -1),
        ("robust_images", torch.zeros(3, 1, dtype=torch.uint8)),
        ("optimizer.param_groups.0.dampening", "much"),
        ("optimizer.param_groups.0.momentum", 2.0),
        ("optimizer.state.0.momentum_buffer", torch.zeros(2)),
        ("optimizer.state.0.momentum_buffer", 1),
        ("kept.labels", torch.zeros(2, 3)),
        ("history", []),
        ("epoch", 1),
    ],
    ids=str,
)
def test_a_state_of_another_kind_is_refused(path: str, value: object, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    state = checkpoint.load(tmp_path / "last.pt")
    *way, name = [int(part) if part.isdigit() else part for part in path.split(".")]
    functools.reduce(operator.getitem, way, state)[name] = value
    checkpoint.save(tmp_path / "last.pt", {key: part for key, part in state.items() if key != "format"})
    with pytest.raises(InputError, match=r"last\.pt: parts of its state are missing or of another kind"):
        train(small(tmp_path))


def test_files_with_python_objects_are_refused_without_the_advice_to_run_them(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "whole.pt")
    with pytest.raises(InputError, match="no file of weights alone") as error:
        load_model(tmp_path / "whole.pt", "mlp")
    assert "weights_only" not in str(error.value)
