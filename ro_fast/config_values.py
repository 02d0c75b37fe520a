"""Whether values fit a configuration: their types, and the bounds that its keys declare."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ro_fast.errors import InputError

Config = TypeVar("Config")
_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "names"}
LARGEST = 10**9  # of whole numbers: what is larger was not meant
LARGEST_SEED = 2**32 - 1  # that NumPy's and torch's generators take alike


def check_values(config: Any, prefix: str = "") -> None:
    """Checks every value of a configuration, those below it included.

    Raises:
        InputError: if a value is of another type, not finite, or beyond its bounds; names key, value and what would be right.

    >>> from ro_fast.config import TrainConfig, changed
    >>> check_values(changed(TrainConfig(), {"trainer.momentum": 2}))
    Traceback (most recent call last):
    ro_fast.errors.InputError: trainer.momentum = 2 should be from 0 to below 1
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        read = read_value(kinds[field.name], value, key, field.metadata)
        if dataclasses.is_dataclass(read) and read is not value:
            raise InputError(f"{key} = {told(value)} should be given key by key, as in {key}.{dataclasses.fields(read)[0].name}")


def read_values(kind: type[Config], values: Mapping[str, Any], prefix: str = "") -> Config:
    """The configuration of a type with the given values; the others have their defaults.

    Args:
        kind: its dataclass.
        values: by key, with mappings for the keys below it.
        prefix: of its keys in messages, such as "data.".

    Raises:
        InputError: as :func:`check_values`, and on keys that are unknown or missing.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(kind)
    found = {}
    for name, value in values.items():
        if name not in fields:
            raise InputError(f"{prefix}{name} is unknown; available: {', '.join(fields)}")
        found[name] = read_value(kinds[name], value, f"{prefix}{name}", fields[name].metadata)
    for name, field in fields.items():
        if name not in found and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{prefix}{name} is missing; it is {field.metadata['about']}")
    return kind(**found)


def read_value(kind: Any, value: Any, key: str, bounds: Mapping[str, Any] = types.MappingProxyType({})) -> Any:
    """A value as one of a type, within the bounds of its key.

    >>> read_value(float, 1, "trainer.lr")
    1.0
    """
    kind, may_be_null = _without_none(kind)
    if dataclasses.is_dataclass(value) and (kind is Any or isinstance(value, kind)):
        check_values(value, f"{key}.")
        return value
    if kind is Any or (value is None and may_be_null):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, Mapping):
            return read_values(kind, value, f"{key}.")
    elif typing.get_origin(kind) is list:
        if isinstance(value, (list, tuple)):
            return [read_value(typing.get_args(kind)[0], each, f"{key}[{i}]", bounds) for i, each in enumerate(value)]
    elif typing.get_origin(kind) is dict:
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return {name: read_value(typing.get_args(kind)[1], each, f"{key}.{name}", bounds) for name, each in value.items()}
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _within(_as_float(value), value, key, bounds)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return _within(value, value, key, {"most": LARGEST, **bounds})
    elif isinstance(value, kind):
        if "among" in bounds and value not in bounds["among"]:
            raise InputError(f"{key} = {told(value)} is unknown; available: {', '.join(bounds['among'])}")
        return value
    raise InputError(f"{key} = {told(value)} should be {wanted(kind, may_be_null)}")


def wanted(kind: Any, may_be_null: bool = False) -> str:
    """What a value of a type is, in words.

    >>> wanted(list[float]), wanted(int | None)
    ('a list of numbers, such as [1,2]', 'a whole number or null')
    """
    kind, optional = _without_none(kind)
    if typing.get_origin(kind) is list:
        inner = typing.get_args(kind)[0]
        words = f"a list of {_SEVERAL.get(inner, 'mappings')}, such as {'[a,b]' if inner is str else '[1,2]'}"
        words = words if inner in _SEVERAL else "a list of mappings, such as [{name: a}]"
    else:
        words = _WORDS.get(kind, "a mapping, such as {name: value}")
    return f"{words}{', or' if ',' in words else ' or'} null" if may_be_null or optional else words


def told(value: Any) -> str:
    """A value as part of a message: on one line, and not longer than it."""
    text = {None: "null", "": "''"}[value] if value in (None, "") else str(value)
    if isinstance(value, bool):
        text = text.lower()
    elif isinstance(value, (list, dict)):  # as it is written, not as Python shows it
        text = text.replace("'", "")
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def _without_none(kind: Any) -> tuple[Any, bool]:
    if isinstance(kind, types.UnionType):
        return next(k for k in typing.get_args(kind) if k is not type(None)), True
    return kind, False


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond them
        return math.inf


def _within(number: Any, value: Any, key: str, bounds: Mapping[str, Any]) -> Any:
    """The number, if it is finite and within ``least``, ``above``, ``most`` and ``below``."""
    if isinstance(number, float) and not math.isfinite(number):
        raise InputError(f"{key} = {told(value)} should be a finite number")
    least, above, most, below = (bounds.get(name) for name in ("least", "above", "most", "below"))
    low = (least is None or number >= least) and (above is None or number > above)
    high = (most is None or number <= most) and (below is None or number < below)
    if low and high:
        return number
    start = f"at least {least:g}" if least is not None else f"above {above:g}" if above is not None else ""
    end = f"at most {most:.10g}" if most is not None else f"below {below:g}" if below is not None else ""
    if least is not None and end and most != LARGEST:
        words = f"from {least:g} to {end.removeprefix('at most ')}"
    else:
        words = start if not low and start else end
    raise InputError(f"{key} = {told(value)} should be {words}")
