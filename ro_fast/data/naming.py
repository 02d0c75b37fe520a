"""What data are called: in a sentence, and on a command line."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import shlex
from pathlib import Path
from typing import Any

from ro_fast.config import DataConfig


def short_name(name: str, path: str | None) -> str:
    """The name that a reader knows the data by: that of their file or folder, if they have one.

    >>> short_name("folder", "photos/of_parts"), short_name("tops", None)
    ('of_parts', 'tops')
    """
    return Path(path).expanduser().resolve().name or name if path else name


def as_options(data: DataConfig) -> str:
    """``data=NAME`` and every other key whose value is not the one that ``data=NAME`` sets.

    >>> as_options(DataConfig(name="digits_noisy", label_noise=0.2, eps=0.03, path="my files"))
    "data=digits_noisy 'data.path=my files'"
    """
    usual = dataclasses.asdict(DataConfig()) | _of_name(data.name)
    changed = {key: value for key, value in dataclasses.asdict(data).items() if value != usual[key]}
    given = [f"data.{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed.items()]
    return shlex.join([f"data={data.name}", *given])


def _of_name(name: str) -> dict[str, Any]:
    import yaml

    file = importlib.resources.files("ro_fast.configs") / "data" / f"{name}.yaml"
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"name": name} | {key: value for key, value in found.items() if key != "defaults"}
