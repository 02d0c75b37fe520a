"""The output of ``ro-fast <command> --help``: what the command does, its groups, and the meaning of each key.

The text comes from the fields' own descriptions in ro_fast/config.py, those of methods' options in ro_fast/methods/options.py,
and the first line of each file below configs/.
"""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ro_fast.cli.commands import COMMANDS
from ro_fast.cli.compose import compose
from ro_fast.cli.keys import GROUPS, choices, descriptions, groups_of
from ro_fast.errors import InputError
from ro_fast.methods.options import OPTIONS

_WIDTH = 100  # maximum columns


def wanted_help(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The help requested, None if none is: "" the overview, "all", or a topic; and the remaining arguments.

    >>> wanted_help(["seeds=5", "--help"]), wanted_help(["--help", "trainer.lr"]), wanted_help(["--help=all"])
    (('', ['seeds=5']), ('trainer.lr', []), ('all', []))
    """
    for i, argument in enumerate(arguments):
        flag, _, topic = argument.partition("=")
        if flag in ("-h", "--help"):
            rest = arguments[i + 1 :]
            if not topic and rest and not rest[0].startswith("-") and ("=" not in rest[0] or rest[0].split("=")[0] in GROUPS):
                topic, rest = rest[0], rest[1:]
            return topic, arguments[:i] + rest
    return None, arguments


def help_text(command: str, topic: str, overrides: list[str]) -> str:
    """The help of a command: an overview that fits a screen, all of it, or the entry of a group or key.

    Args:
        command: its name.
        topic: "" for the overview, "all", a group ("method"), a choice ("method=gairat"), a key or the beginning of one.
        overrides: those of the command line, so that the values shown are the effective ones.

    Raises:
        InputError: if there is nothing of that name.
    """
    about = COMMANDS[command]
    keys_too = "" if about.schema is None else " [key=value ...]"
    title = textwrap.fill(f"ro-fast {command}{keys_too}: {about.summary}", _columns(), subsequent_indent="  ")
    if about.schema is None:
        return title
    groups = groups_of(about.schema)
    if not topic:
        return "\n".join([title, *_overview(command, about.schema, groups)])
    values = _flat(dataclasses.asdict(compose(command, overrides)))
    keys = {key: _line(text, values.get(key)) for key, text in descriptions(about.schema).items()}
    if topic == "all":
        offered = {f"{group}={name}": text for group in groups for name, text in choices(group).items()}
        return "\n".join([title, "", *_table(offered), "", *_table(keys)])
    if topic in groups:
        offered = {f"{topic}={name}": text for name, text in choices(topic).items()}
        own = {key: text for key, text in keys.items() if key.startswith(f"{topic}.")}
        return "\n".join([*_table(offered), *([""] if own else []), *_table(own)])
    group, _, choice = topic.partition("=")
    if group in groups and choice in choices(group):
        return "\n".join([*_table({topic: choices(group)[choice]}), *_values_of(group, choice)])
    found = {key: text for key, text in keys.items() if key == topic or key.startswith(f"{topic}.")}
    found = found or {key: text for key, text in keys.items() if topic in key}
    if not found:
        raise InputError(f"--help {topic}: {command} has no such group or key; --help=all lists them all")
    return "\n".join(_table(found))


def _overview(command: str, schema: type, groups: list[str]) -> list[str]:
    offered = {group: ", ".join(choices(group)) for group in groups}
    own: dict[str, str] = {}
    parts = []
    types = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        inner = types[field.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            parts.append(f"{field.name}.*")
        elif field.name not in groups:
            own[field.name] = field.metadata["about"]
    lines = ["", "Groups, each choice a file of values (GROUP=CHOICE):", *_table(offered)] if offered else []
    lines += ["", "Keys:", *_table(own)]
    if parts:
        lines += ["", textwrap.fill(f"Keys below: {', '.join(parts)}", _columns(), subsequent_indent="  ")]
    names = "a group, a choice (method=gairat) or a key (trainer.lr)" if offered else "a key"
    return [*lines, "", f"--help NAME: more on {names}.", "--help=all: every key. --cfg job: the values, as YAML."]


def _values_of(group: str, choice: str) -> list[str]:
    text = (resources.files("ro_fast.configs") / group / f"{choice}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "defaults", "  -"))]
    if group != "method":
        return [f"  {line}" for line in lines]
    own = {line: line.partition(":")[0] for line in lines}
    return _table({line: OPTIONS[key].about if key in OPTIONS else "" for line, key in own.items()})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found[prefix + key] = value
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
    return found


def _line(about: str, value: Any) -> str:
    """The meaning of a key, with its value if that is short enough to be read in passing."""
    if value is None or isinstance(value, Mapping) or len(str(value)) > 40 or value == []:
        return about
    shown = str(value).lower() if isinstance(value, bool) else str(value).strip("[]")
    return f"{about} [{shown}]"


def _table(rows: Mapping[str, str]) -> list[str]:
    if not rows:
        return []
    width = max(map(len, rows))
    lines: list[str] = []
    for key, text in rows.items():
        lead, indent = f"  {key:{width}}  ", " " * (width + 4)
        wrapped = textwrap.wrap(text, _columns(), initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False)
        lines += wrapped or [lead.rstrip()]
    return lines


def _columns() -> int:
    return max(60, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
