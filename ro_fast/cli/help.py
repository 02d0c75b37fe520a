"""What ``ro-fast <command> --help`` says: what the command does, what its groups offer, and what each key means.

The words are those that stand beside the values: comments in ro_fast/config.py and in the files below configs/.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from importlib import resources

GROUPS = ("data", "model", "attack", "method", "trainer", "recipe", "suite")
_FIELD = re.compile(r"^    (\w+): .*  # (.+)$", re.MULTILINE)  # of a dataclass
_VALUE = re.compile(r"^(\w+): .*  # (.+)$", re.MULTILINE)  # of a YAML file
_FIRST = re.compile(r"^# (?!@)(.+)$", re.MULTILINE)


def help_text(command: str, about: str, schema: type | None) -> str:
    """A template for Hydra, which puts the values for ``$CONFIG``.

    Args:
        command: its name.
        about: its line in the list of commands.
        schema: the dataclass of its configuration; None: it has no keys.
    """
    if schema is None:
        return f"ro-fast {command}: {about}\n"
    keys, groups = meanings(schema), [group for group in GROUPS if _has(schema, group)]
    offered = {f"{group}={name}": line for group in groups for name, line in _options(group).items()}
    parts = [f"ro-fast {command} [key=value ...]: {about}"]
    if offered:
        parts.append(f"groups, each choice a file of values:\n{_table(offered)}")
    if "method" in groups:
        keys |= {f"method.{key}": text for key, text in _VALUE.findall(_read("method", "common.yaml"))}
    parts += [f"what the keys mean:\n{_table(keys)}", "their values:\n$CONFIG"]
    return "\n\n".join(parts) + "\n"


def meanings(schema: type, prefix: str = "") -> dict[str, str]:
    """Each key with the comment that stands beside it in ro_fast/config.py; keys without one speak for themselves.

    >>> from ro_fast.config import WatchConfig
    >>> meanings(WatchConfig)["out"]
    'picture to draw, a .png; null: none'
    """
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if dataclasses.is_dataclass(base):
            comments |= _FIELD.findall(inspect.getsource(base))
    types = typing.get_type_hints(schema)
    found: dict[str, str] = {}
    for field in dataclasses.fields(schema):
        inner = types[field.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            found |= meanings(inner, f"{prefix}{field.name}.")
        elif field.name in comments:
            found[prefix + field.name] = comments[field.name].replace("None", "null")  # as it is written on a command line
    return found


def _has(schema: type, group: str) -> bool:
    names = {field.name for field in dataclasses.fields(schema)}
    return group in names or (group == "recipe" and "trainer" in names)


def _options(group: str) -> dict[str, str]:
    """The files of a group, with the first line of each."""
    names = sorted(file.name for file in (resources.files("ro_fast.configs") / group).iterdir() if file.name.endswith(".yaml"))
    first = {name.removesuffix(".yaml"): _FIRST.search(_read(group, name)) for name in names if name != "common.yaml"}
    return {name: line[1] if line else "" for name, line in first.items()}


def _read(group: str, name: str) -> str:
    return (resources.files("ro_fast.configs") / group / name).read_text(encoding="utf-8")


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {key:{width}}  {text}" for key, text in rows.items()).replace("$", "$$")
