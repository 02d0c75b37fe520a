"""What a command can be given: groups with their choices, and keys with their types and meanings."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ro_fast.methods.options import OPTIONS, common_defaults

Kinds = dict[str, Any]  # key, dotted -> its type
GROUPS = ("data", "model", "attack", "method", "trainer", "recipe", "suite", "launcher")


def groups_of(schema: type) -> list[str]:
    """The groups of a command."""
    names = {field.name for field in dataclasses.fields(schema)}
    return [group for group in GROUPS if group in names or (group == "recipe" and "trainer" in names)]


def choices(group: str) -> dict[str, str]:
    """The files of a group, with the first line of each, which describes it."""
    names = sorted(file.name for file in (resources.files("ro_fast.configs") / group).iterdir() if file.name.endswith(".yaml"))
    return {name.removesuffix(".yaml"): _first_line(group, name) for name in names}


def descriptions(schema: type, prefix: str = "") -> dict[str, str]:
    """Each key of a configuration, dotted, with its meaning.

    >>> from ro_fast.config import WatchConfig
    >>> descriptions(WatchConfig)["out"]
    'page to write, a .html, or a picture of the curve, a .png; null: none'
    """
    kinds = typing.get_type_hints(schema)
    found: dict[str, str] = {}
    for field in dataclasses.fields(schema):
        inner = kinds[field.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            found |= descriptions(inner, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field.metadata["about"]
            if field.name == "method":
                found |= {f"method.{name}": option.about for name, option in OPTIONS.items()}
    return found


def kinds_of(schema: type, prefix: str = "") -> Kinds:
    """Each key of a configuration, dotted, with its type; also the keys that hold others.

    >>> from ro_fast.config import AblateConfig
    >>> kinds_of(AblateConfig)["trainer.lr"], "suite.rules.min_gap" in kinds_of(AblateConfig)
    (<class 'float'>, True)
    """
    found: Kinds = {}
    for name, kind in typing.get_type_hints(schema).items():
        found[prefix + name] = kind
        inner = next((k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k) and isinstance(k, type)), None)
        if inner is not None and typing.get_origin(kind) in (None, types.UnionType):
            found |= kinds_of(inner, f"{prefix}{name}.")
    return found


@functools.cache
def method_options(name: str) -> Mapping[str, Any]:
    """The options of a method, with their defaults."""
    from omegaconf import OmegaConf

    text = (resources.files("ro_fast.configs") / "method" / f"{name}.yaml").read_text(encoding="utf-8")
    own: Any = OmegaConf.to_container(OmegaConf.create(text))
    return {key: value for key, value in (common_defaults() | own).items() if key != "defaults"}


def _first_line(group: str, name: str) -> str:
    lines = (resources.files("ro_fast.configs") / group / name).read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ") and not line.startswith("# @")), "")
