"""Rows on disk, one JSON object per line, written as soon as they are measured, so that no later failure can lose them."""

from __future__ import annotations

import json
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ro_fast.environment import environment

from ..machine import commit
from .targets import TARGETS


class Rows:
    """Appends rows to a file. Each states the device, the torch and driver versions, and the commit of its measurement."""

    def __init__(self, path: Path, device: str, dry: bool) -> None:
        known = environment(torch.device(device))
        self.path, self._dry = path, dry
        self._about = {"device": known.device, "torch": known.torch, "driver": driver(), "commit": commit()}
        self._about |= {"source": known.source} | ({"dry": True} if dry else {})

    def put(self, kind: str, name: str, **values: Any) -> None:
        """Writes one row and prints a short form."""
        row = {"kind": kind, "name": name, **values, "at": time.strftime("%Y-%m-%dT%H:%M:%S"), **self._about}
        append(self.path, row)
        print(f"{kind:8} {name}: {', '.join(f'{key} {_short(value)}' for key, value in values.items())}", flush=True)

    def target(self, key: str, name: str, measured: float, **values: Any) -> None:
        """The row of a target: "G3/128" is case 128 of id G3."""
        target, (id_, _, case) = TARGETS[key], key.partition("/")
        limits = {"must": target.must, "goal": target.goal, "lower": target.lower}
        met = None if self._dry else target.met(measured)
        self.put("target", name, id=id_, case=case, measured=measured, **limits, met=met, **values)

    def error(self, name: str, error: Exception) -> None:
        """The row of a failure: the error and the last lines of code it came through."""
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        self.put("error", name, error=f"{type(error).__name__}: {str(error).strip()[:500]}", where=where)


def append(path: Path, row: Mapping[str, Any]) -> None:
    """One line in one write, so that a process that dies leaves whole lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read(path: Path, offset: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of a file from a byte offset on."""
    if path.exists():
        for line in path.read_bytes()[offset:].decode("utf-8").splitlines():
            yield json.loads(line)


def key_of(row: dict[str, Any]) -> str:
    """The key of a target's row in TARGETS."""
    return f"{row['id']}/{row['case']}" if row["case"] else row["id"]


def driver() -> str:
    """The version of NVIDIA's driver, "" if there is none."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
