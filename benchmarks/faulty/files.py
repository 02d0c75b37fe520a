"""Files with something else in them: a value of another kind, a key that is gone, half of the bytes, no UTF-8, a flipped bit."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .lines import DATA, RUN
from .trial import Line, altered, ended, import_all

HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 2.5, float("nan"), float("inf"), "", "x", "nan", "画像", "x" * 300),
    *([], {}, [1], {"a": 1}, [[1]]),
)
_ARMS = "suite.arms=[{name: baseline, role: baseline},{name: perturbation, set: {method: {name: perturbation, masks: frozen}}}]"
TRAIN: Line = ("train", *altered(RUN, "out=run"))
SUITE: Line = (
    *("ablate", *altered(RUN, "out=suite", "trainer.epochs=3"), "jobs=1", "seeds=1", "prefixes=prefixes"),
    *("suite.fork=1", "suite.claims=[]", _ARMS),
)
HALF: Line = altered(SUITE, "out=half")  # an arm of it has yet to be trained
_FEW = ("samples=10", "steps=1", "apgd_steps=1", "targets=1", "queries=1", "threads=1")
EVALUATE: Line = ("evaluate", "checkpoint=run", "out=evaluated", *_FEW)
CHECK: Line = ("check", *DATA, "threads=1", "out=checked")
EXPORT: Line = ("export", "checkpoint=run", "out=exported")
PROTOCOL: Line = ("protocol", *DATA, "robust=0.3", "out=agreed")
PROTOTYPE: Line = (
    *("prototype", *altered(RUN, "out=decided", "trainer.epochs=2"), "jobs=1", "seeds=1", "prefixes=prefixes", "budget=10min"),
)
_USING_EXPORT: Line = ("evaluate", "checkpoint=exported/model.safetensors", "out=out", *_FEW)
_REPORT: Line = ("report", "run=suite")

# What the commands write, and a command that reads it: a change must be noticed.
WRITTEN: tuple[tuple[Line, str], ...] = (
    (TRAIN, "run/last.pt"),
    (TRAIN, "run/best.pt"),
    (EVALUATE, "run/last.pt"),
    (altered(EVALUATE, "out=out"), "run/config.yaml"),
    (EVALUATE, "evaluated/stages-last.pt"),
    (("export", "checkpoint=run", "out=out"), "run/best.pt"),
    (("export", "checkpoint=run", "out=out"), "run/metrics.jsonl"),
    (("export", "checkpoint=run/last.pt", "evaluation=evaluated/evaluation.json", "out=out"), "evaluated/evaluation.json"),
    (("watch", "curve=run"), "run/metrics.jsonl"),
    (_USING_EXPORT, "exported/model.safetensors"),
    (_USING_EXPORT, "exported/config.yaml"),
    (_REPORT, "suite/results.json"),
    (_REPORT, "suite/runs/perturbation/seed0/metrics.jsonl"),
    (SUITE, "suite/runs/perturbation/seed0/last.pt"),
    (SUITE, "suite/runs/perturbation/seed0/samples.npz"),
    (SUITE, "suite/runs/perturbation/seed0/test_images.npz"),
    (HALF, "half/runs/perturbation/seed0/fork.pt"),
    (HALF, "prefixes/*/last.pt"),
    (("train", *RUN, "data.exclude=checked/check.json"), "checked/check.json"),
    (("report", "run=decided"), "decided/prototype.json"),
    (PROTOTYPE, "decided/plan.json"),
)
# What users give: it may be damaged or not what it should be, but what can be read is theirs.
GIVEN: tuple[tuple[Line, str], ...] = (
    (("check", "data.path=given/images.npz", "threads=1", "out=out"), "given/images.npz"),
    (("check", "data.path=given/images.csv", "threads=1", "out=out"), "given/images.csv"),
    (("check", "data.path=given/images", "threads=1", "out=out"), "given/images/train/a/0.png"),
    (("watch", "curve=given/log.csv"), "given/log.csv"),
    (("watch", "curve=given/log.jsonl"), "given/log.jsonl"),
    (("evaluate", "checkpoint=run", "protocol=agreed/protocol.yaml", "out=out", "threads=1"), "agreed/protocol.yaml"),
    (("train", *RUN, "data.extra=given/extra.npz"), "given/extra.npz"),
)


MAKERS: tuple[Line, ...] = (TRAIN, EVALUATE, EXPORT, CHECK, PROTOCOL, SUITE, PROTOTYPE)


def make_files(folder: Path, makers: tuple[Line, ...] = MAKERS) -> None:
    """What :data:`WRITTEN` and :data:`GIVEN` name, made by the commands that make it."""
    _give(folder / "given")
    for line in makers:
        made = ended(line, folder)
        assert made.code == 0, made.stderr
        import_all(made.imported)
    shutil.copytree(folder / "suite", folder / "half")
    for name in ("last.pt", "best.pt", "metrics.jsonl"):
        (folder / "half/runs/perturbation/seed0" / name).unlink()
    (folder / "half/results.json").unlink()


def _give(folder: Path) -> None:
    """Images of two classes as arrays, as files and as a list of them, and a log of training."""
    from PIL import Image

    draw = np.random.default_rng(0)
    rows = []
    for part, count in (("train", 12), ("test", 6)):
        for label in "ab":
            (folder / "images" / part / label).mkdir(parents=True)
            for number in range(count):
                path = folder / "images" / part / label / f"{number}.png"
                Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(path)
                rows.append(f"{path.relative_to(folder)},{label},{part}\n")
    (folder / "images.csv").write_text("path,label,split\n" + "".join(rows), encoding="utf-8")
    x, y = draw.integers(0, 256, (36, 1, 8, 8), np.uint8), np.arange(36) % 2
    np.savez(folder / "images.npz", x_train=x[:24], y_train=y[:24], x_test=x[24:], y_test=y[24:])
    np.savez(folder / "extra.npz", x=draw.integers(0, 256, (10, 1, 8, 8), np.uint8))
    curve = [{"epoch": i, "test_robust_acc": 0.4 - abs(i - 15) / 100, "test_robust_loss": 1.5 + i / 100} for i in range(30)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
    lines = [",".join(curve[0]), *(",".join(str(value) for value in row.values()) for row in curve)]
    (folder / "log.csv").write_text("\n".join(lines), encoding="utf-8")


def break_one(folder: Path, draw: random.Random) -> tuple[Line, str]:
    """Breaks a file in a copy of what :func:`make_files` made; returns the command that reads it, and what was done."""
    line, name = draw.choice([(line, name) for line, name in (*WRITTEN, *GIVEN) if any(folder.glob(name))])
    return line, f"{name}: {break_file(found(folder, name), draw)}"


def found(folder: Path, name: str) -> Path:
    """The file of a name in which * stands for any."""
    return sorted(folder.glob(name))[0]


def flip_bit(path: Path, draw: random.Random) -> str:
    """Flips one bit of a file, and says which."""
    content = bytearray(path.read_bytes())
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at}"


def break_file(path: Path, draw: random.Random) -> str:
    """Breaks a file in one of many ways, and says how."""
    content = path.read_bytes()
    way = draw.choice(["value", "value", "value", "gone", "half", "empty", "bytes"])
    if way == "half":
        path.write_bytes(content[: int(draw.random() * len(content))])
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "bytes":
        at = int(draw.random() * len(content))
        path.write_bytes(content[:at] + b"\xff\xfe\x00" + content[at + 3 :])
    else:
        return _changed(path, draw, way)
    return way


def _changed(path: Path, draw: random.Random, way: str) -> str:
    if path.suffix in (".png", ".npz", ".csv", ".safetensors"):
        return flip_bit(path, draw)
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        done = _change(state, draw, way)
        torch.save(state, path)
        return done
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        values = yaml.safe_load(text)
        done = _change(values, draw, way)
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return done
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    at = int(draw.random() * len(lines))
    values = json.loads(lines[at])
    if isinstance(values, dict):
        values.pop("digest", None)  # so that the change is found, and not that there was one
    done = _change(values, draw, way)
    lines[at] = json.dumps(values, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return done


def _change(values: Any, draw: random.Random, way: str) -> str:
    """Replaces or removes one value, at any depth, in place."""
    place, node = [], values
    while True:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        place.append(str(key))
        inner = node[key]
        if not (isinstance(inner, (dict, list)) and len(inner) and draw.random() < 0.7):
            break
        node = inner
    where = ".".join(place)
    if way == "gone":
        del node[key]
        return f"{where} is gone"
    value = draw.choice((*HOSTILE, torch.zeros(3))) if isinstance(inner, torch.Tensor) else draw.choice(HOSTILE)
    node[key] = copy.deepcopy(value)
    return f"{where} is {value!r}"[:120]
