"""Exact states on disk, written so that a kill at any moment leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ro_fast.errors import InputError
from ro_fast.storage.saving import saving

Flat = dict[str, Any]  # a configuration: dotted path -> value
State = dict[str, Any]  # tensors, numbers, strings, lists and dictionaries under the names of what they restore
_FORMAT = "ro_fast run 1"
UNFINISHED = ".part"  # how names of files end that are being written


def write_atomically(path: Path, write: Any) -> None:
    """Calls ``write(file)`` on a temporary file beside ``path`` and renames it once it is safely on disk.

    Raises:
        StorageError: if it can't be written; what was there before is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    with saving(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def save(path: Path, state: State) -> None:
    """Writes a state of tensors, numbers, strings, lists and dicts atomically; :func:`load` reads it."""
    buffer = io.BytesIO()  # torch's own message for a full disk is unclear; a plain write says what happened
    torch.save({"format": _FORMAT, **state}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path) -> State:
    """Reads a state onto the CPU; nothing in the file is executed.

    Raises:
        InputError: if the file is truncated, was changed since it was written, or is not a checkpoint of ro_fast.
    """
    try:
        changed = damaged(path)
        state = None if changed else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error}); {_remedy(path)}") from error
    except Exception as error:  # a damaged archive fails in many ways, and torch's advice on them is not for this file
        raise InputError(f"{path} is truncated, damaged or not a checkpoint; {_remedy(path)}") from error
    if changed:
        raise InputError(f"{path} is damaged: it was changed after it was written; {_remedy(path)}")
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(f"{path} is not a checkpoint of this version of ro_fast; {_remedy(path)}")
    return state


def damaged(path: Path) -> bool:
    """Whether torch's file was changed after it was written, such as by a flipped bit.

    It is a zip archive, each of whose records carries a CRC-32 of its content, which torch does not compare when it reads them.

    Raises:
        OSError, zipfile.BadZipFile: if it can't be read, or is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is not None


def _remedy(path: Path) -> str:
    """What to do about a state that can't be taken."""
    best = path.with_name("best.pt")
    if path.name == "last.pt" and best.exists():
        return "move it away and run the same command again, which continues from best.pt beside it, or else from the start"
    return "move it away to start again"


@contextlib.contextmanager
def taking_apart(path: Path) -> Iterator[None]:
    """Turns parts of a file's state that are missing or of another kind into one sentence: only these are used within."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: parts of its state are missing or of another kind; move it away to start again") from error


def flat(config: Any) -> Flat:
    """A config as dotted paths and JSON values: ``{"trainer.lr": 0.1, ...}``."""

    def walk(value: Any, path: str) -> Flat:
        if isinstance(value, dict):
            return {k: v for key, child in value.items() for k, v in walk(child, f"{path}.{key}" if path else key).items()}
        return {path: value}

    return walk(json.loads(json.dumps(dataclasses.asdict(config))), "")


def differences(here: Flat, there: Flat) -> str:
    """Names the differences between two flat configs, "" if they agree; of digests, the first digits."""
    keys = [key for key in sorted({*here, *there}) if here.get(key) != there.get(key)]

    def told(value: Any) -> str:
        text = str(value)
        return f"{text[:8]}…" if len(text) > 50 and text.isalnum() else text

    return ", ".join(f"{key}: {told(there.get(key))} there, {told(here.get(key))} requested" for key in keys)


def digest(*parts: Any) -> str:
    """A short digest of anything that JSON can represent, and of records."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=dataclasses.asdict).encode()).hexdigest()[:20]


def source_digest() -> str:
    """A digest of the running code: the package's Python files and its compiled operators."""
    package = Path(__file__).parents[1]
    sources = [*package.rglob("*.py"), *package.glob("_C*.so")]
    kernels = importlib.util.find_spec("ro_fast.kernels")  # lies beside the package if it is installed editable
    for folder in (kernels.submodule_search_locations if kernels else None) or []:
        sources += Path(folder).rglob("*.py")
    return digest(sorted({(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sources}))
