"""Files of ours with something else in them: a value of another kind, a key that is gone, half of the bytes, no UTF-8."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from helpers.bad_inputs import RUN, TINY, ended

HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 2.5, float("nan"), float("inf"), "", "x", "nan", "画像", "x" * 300),
    *([], {}, [1], {"a": 1}, [[1]]),
)
_OF_RUN = [argument for argument in RUN if not argument.startswith("out=")]
_ARMS = "suite.arms=[{name: baseline, role: baseline},{name: perturbation, set: {method: {name: perturbation}}}]"
CONTINUED = ("train", *_OF_RUN, "out=run")
SUITE = (
    *("ablate", *_OF_RUN, "jobs=1", "seeds=1", "trainer.epochs=2", "prefixes=prefixes", "out=suite"),
    *("suite.fork=1", "suite.claims=[]", _ARMS),
)
EVALUATED = ("evaluate", *(a for a in TINY["evaluate"] if a != "out=out"), "out=evaluated")
# What is read: the command that reads it, and its file.
READ = (
    (CONTINUED, "run/last.pt"),
    (EVALUATED, "run/last.pt"),
    (EVALUATED, "run/config.yaml"),
    (EVALUATED, "evaluated/stages-last.pt"),
    (("export", "checkpoint=run", "out=out"), "run/best.pt"),
    (("export", "checkpoint=run", "out=out"), "run/config.yaml"),
    (("export", "checkpoint=run", "out=out"), "run/metrics.jsonl"),
    (("export", "checkpoint=run/last.pt", "evaluation=evaluated/evaluation.json", "out=out"), "evaluated/evaluation.json"),
    (("watch", "curve=run"), "run/metrics.jsonl"),
    (("report", "run=suite"), "suite/results.json"),
    (("report", "run=suite"), "suite/runs/perturbation/seed0/metrics.jsonl"),
    (("train", *_OF_RUN, "data.exclude=checked/check.json", "out=out"), "checked/check.json"),
)


def make_files() -> None:
    """Everything that :data:`READ` names, made by the commands that make it, in the working folder."""
    for line in (CONTINUED, EVALUATED, ("check", *TINY["check"][:-1], "out=checked"), SUITE):
        made = ended(line)
        assert made.code == 0, made.stderr


def broken_files(count: int, seed: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """A command and what was done to a file that it reads, which is put right again afterwards."""
    draw = random.Random(seed)
    for _ in range(count):
        line, name = draw.choice(READ)
        path, before = Path(name), Path(name).read_bytes()
        shutil.rmtree("out", ignore_errors=True)
        done = break_file(path, draw)
        try:
            yield line, f"{name}: {done}"
        finally:
            path.write_bytes(before)


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
