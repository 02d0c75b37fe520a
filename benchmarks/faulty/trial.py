"""One command line in a process of its own, and what it left behind.

The process is forked, so that hundreds of them don't import torch anew; the parent must not have used torch's threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from ro_fast.cli import run

Line = tuple[str, ...]
TIMEOUT = 300.0  # seconds until a command hangs; the slowest takes 20 on two busy cores
# What depends on the clock or the machine's speed rather than on the work.
_TIMES = {
    *("seconds", "train_seconds", "wall_seconds", "epoch_seconds_of_all", "here_hours", "minutes", "spent"),
    *("peak_mb", "digest"),
}
# Words of Hydra, OmegaConf and Python that a user should not meet.
JARGON = re.compile(
    r"Traceback|override|composition|compose|primary config|Lexer|struct\b|[Hh]ydra|OmegaConf|omegaconf|msgspec|full_key|"
    r"ConfigAttribute|ValidationError|DictConfig|ListConfig|NoneType|grammar|mismatched input|\bobject of type\b|RO_FAST_DEBUG"
)


def altered(line: Line, *arguments: str) -> Line:
    """A line with other values of some keys, or further keys.

    >>> altered(("train", "seed=1", "out=a"), "out=b", "threads=1")
    ('train', 'seed=1', 'out=b', 'threads=1')
    """
    new = {argument.partition("=")[0]: argument for argument in arguments}
    return (*(new.pop(part.partition("=")[0], part) for part in line), *new.values())


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    line: Line
    code: int | None  # None: it hung; negative: ended by that signal
    stderr: str
    stdout: str = ""
    imported: tuple[str, ...] = ()  # modules, if it was not killed

    @property
    def refusal(self) -> list[str]:
        """The lines on stderr that are neither notices nor progress."""
        said = self.stderr.strip().splitlines()
        return [line for line in said if not line.startswith(("ro_fast: ", "[")) and line.strip()]

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None if it was done, or refused in a sentence."""
        return self.fault_unless(0, 2)

    def fault_unless(self, *codes: int) -> str | None:
        """What is wrong with it, if it may end with these exit codes."""
        if self.code is None:
            return "hangs"
        if found := JARGON.search(self.stderr):
            return f"says {found[0]!r}"
        if self.code not in codes:
            return f"exit code {self.code}"
        if self.code > 0 and len(self.refusal) != 1:
            return f"{len(self.refusal)} lines"
        return None


class Running:
    """A command line at work in a forked process, which leads a process group of its own."""

    def __init__(self, line: Line, folder: Path, prepare: Callable[[], None] | None = None) -> None:
        self.line = line
        self._said, self._printed, self._imported = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115
        before = set(sys.modules)
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                os.dup2(self._printed.fileno(), 1)
                os.dup2(self._said.fileno(), 2)
                sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
                os.chdir(folder)
                if prepare is not None:
                    prepare()
                code = run(list(line))
                os.write(self._imported.fileno(), " ".join(set(sys.modules) - before).encode())
            except BaseException:  # run() turns errors into exit codes: what passes it, Python prints
                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)

    def workers(self) -> list[int]:
        """The processes that it has started."""
        with contextlib.suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def kill(self, pid: int | None = None) -> None:
        """Ends it, or one of its workers, as the kernel does when memory runs out."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid if pid is None else pid, signal.SIGKILL)

    def ended(self, timeout: float = TIMEOUT) -> Ended:
        """Waits for its end, and ends it if it hangs; its workers are gone too when this returns."""
        deadline, status = time.monotonic() + timeout, None
        while status is None and time.monotonic() < deadline:
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            status = found if pid else None
            time.sleep(0.002)
        if status is None:
            self.kill()
            os.waitpid(self.pid, 0)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        self._wait_for_group()
        texts = []
        for file in (self._said, self._printed, self._imported):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()
        return Ended(self.line, code, texts[0], texts[1], tuple(texts[2].split()))

    def _wait_for_group(self) -> None:
        deadline = time.monotonic() + 20  # workers end by themselves when the process that started them is gone
        while time.monotonic() < deadline:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def ended_here(line: Line) -> Ended:
    """Runs a command line in this process, in the working folder."""
    threads, said = torch.get_num_threads(), io.StringIO()
    handlers = list(logging.getLogger("ro_fast").handlers)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(list(line))
    except BaseException:  # run() turns errors into exit codes: what passes it would be printed by Python
        code = 1
        said.write(traceback.format_exc())
    finally:
        torch.set_num_threads(threads)
        logging.getLogger("ro_fast").handlers[:] = handlers
    return Ended(line, code, said.getvalue())


def ended(line: Line, folder: Path, prepare: Callable[[], None] | None = None) -> Ended:
    """Runs a command line in a folder to its end."""
    return Running(line, folder, prepare).ended()


def import_all(modules: tuple[str, ...]) -> None:
    """Imports what a forked process has imported, so that those forked later need not."""
    for name in modules:
        with contextlib.suppress(Exception):  # parts of a package that only it can import
            importlib.import_module(name)


def left(folder: Path) -> dict[str, Any]:
    """Everything in a folder, by path, without what depends on the clock: pages are only said to be there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.endswith(".lock"):
            try:
                found[name] = _content(path)
            except Exception as error:  # damaged on purpose, and not repaired
                found[name] = f"can't be read: {type(error).__name__}"
    return found


def _content(path: Path) -> Any:
    if path.suffix in (".json", ".jsonl"):
        return [_timeless(json.loads(line)) for line in _documents(path)]
    if path.suffix == ".pt":
        return _timeless(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: _digest(file[name].tobytes()) for name in file.files}
    if path.suffix == ".safetensors":  # its metadata are written in any order
        with safe_open(path, framework="pt") as file:
            return _timeless({"metadata": file.metadata(), **{name: file.get_tensor(name) for name in file.keys()}})  # noqa: SIM118
    return True if path.suffix in (".html", ".svg") else _digest(path.read_bytes())


def _documents(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _TIMES}
    if isinstance(value, (list, tuple)):
        return [_timeless(inner) for inner in value]
    if isinstance(value, torch.Tensor):
        file = io.BytesIO()
        np.save(file, value.contiguous().flatten().view(torch.uint8).numpy())
        return [list(value.shape), str(value.dtype), _digest(file.getvalue())]
    return value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The paths whose contents differ."""
    return sorted(name for name in {*a, *b} if a.get(name, "absent") != b.get(name, "absent"))


@dataclass
class Count:
    """What became of one kind of fault."""

    kind: str
    tried: int = 0
    refused: int = 0  # in one sentence
    continued: int = 0  # with the result of an undisturbed run, at once or by the same command
    differing: int = 0
    tracebacks: int = 0
    hangs: int = 0
    outside: int = 0  # wrote elsewhere than into its folders
    examples: list[str] = dataclasses.field(default_factory=list)  # of the last four

    def fault(self, what: str, about: str) -> None:
        """Counts a fault of ours."""
        field = {"hangs": "hangs", "differs": "differing", "outside": "outside"}.get(what, "tracebacks")
        setattr(self, field, getattr(self, field) + 1)
        self.examples.append(f"{what}: {about}"[:600])

    def add(self, other: Count) -> None:
        """Adds the counts of another part of the same kind."""
        for field in dataclasses.fields(self):
            if field.name != "kind":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
