"""From a command line to what Hydra takes: known keys only, and each value as one of its key's type.

Hydra has a grammar of its own for values, in which ``= ~ , ( ) [ ] { } & # ;`` and blanks mean something. Here text is what
the shell passed on, whatever its letters, and messages are about the command line.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from typing import Any

from ro_fast.cli.keys import Kinds, choices, groups_of, kinds_of, method_options
from ro_fast.config import DataConfig, ModelConfig
from ro_fast.config_values import read_value, told, wanted
from ro_fast.errors import InputError

HYDRAS = ("hydra.", "hydra/")  # what its own keys begin with
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_TEXT, _NUMBER, _WHOLE = (wanted(kind) for kind in (str, float, int))


def for_hydra(command: str, schema: type, arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them; flags and what follows them as they are.

    Raises:
        InputError: if a key is unknown, or a value can't be one of its key.

    >>> from ro_fast.config import TrainConfig
    >>> for_hydra("train", TrainConfig, ["data.path=my (1), 画像=a&b", "trainer.lr=0.5", "out=1e5"])
    ["data.path='my (1), 画像=a&b'", 'trainer.lr=0.5', "out='1e5'"]
    """
    given = dict(argument.partition("=")[::2] for argument in arguments if not argument.startswith("-"))
    kinds, groups = kinds_of(schema), groups_of(schema)
    for group, node in (("data", DataConfig), ("model", ModelConfig)):
        if kinds.get(group) is Any and given.get(group, "null") != "null":  # one that may be left out, and was not
            kinds |= kinds_of(node, f"{group}.")
    if "method" in groups:
        kinds |= {f"method.{name}": str if name == "from" else Any for name in method_options(_method(given))}
    several = bool({"-m", "--multirun"} & set(arguments))  # then a comma separates the values of a sweep
    found = []
    for i, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if argument.startswith("-") or (i and arguments[i - 1].startswith("-") and not equals) or key.startswith(HYDRAS):
            found.append(argument)
            continue
        if not equals or not key:
            raise InputError(f"{told(argument)} is not of the form key=value; ro-fast {command} --help lists the keys")
        if key in groups:
            if not (value == "null" and kinds.get(key) is Any):  # null is the default of groups that may be left out
                found.append(f"{key}={','.join(_choice(key, part) for part in _parts(value, several))}")
            continue
        if key not in kinds:
            raise InputError(_unknown_key(command, key, given, [*kinds, *groups]))
        _check_references(key, value, kinds)
        found.append(f"{key}={','.join(_value(kinds[key], key, part) for part in _parts(value, several))}")
    return found


def _parts(value: str, several: bool) -> list[str]:
    """The values of a sweep; one that holds quotes or brackets is a single value.

    >>> _parts("0,1", True), _parts("0,1", False), _parts("[0,1]", True)
    (['0', '1'], ['0,1'], ['[0,1]'])
    """
    return value.split(",") if several and not set(value) & set("'\"[]{}()") else [value]


def _choice(group: str, value: str) -> str:
    """The name of a choice, if there is one of that name."""
    offered = choices(group)
    if value in offered:
        return value
    available = f"available: {', '.join(offered)}"
    raise InputError(f"{group}={told(value)} is unknown; {did_you_mean(value, offered, f'{group}=')}{available}")


def _unknown_key(command: str, key: str, given: dict[str, str], known: Collection[str]) -> str:
    bare = key.lstrip("+~")
    if key.startswith("~"):
        return f"{told(key)}: a key can't be removed; give it another value, {bare}=VALUE"
    if bare != key and bare in known:
        return f"{told(key)} has no use for its '+'; write {bare}="
    if key.startswith("method."):
        own, name = sorted(method_options(_method(given))), bare.removeprefix("method.")
        others = [method for method in choices("method") if name in method_options(method)]
        near = f"{', '.join(others)} {'have' if others[1:] else 'has'} it; " if others else did_you_mean(name, own, "method.")
        return f"{told(key)}: method={_method(given)} has no such option; {near}its options: {', '.join(own)}"
    near = did_you_mean(bare, known, "")
    return f"{told(key)} is not a key of {command}; {near}ro-fast {command} --help=all lists the keys"


def did_you_mean(name: str, known: Collection[str], before: str) -> str:
    """"did you mean NAME? " for the nearest known name, with what is written before it; "" if none is near.

    >>> did_you_mean("trainer.eposch", ["trainer.epochs", "trainer.lr"], "")
    'did you mean trainer.epochs? '
    """
    near = difflib.get_close_matches(name, known, 1)
    if not near:  # the last part alone, as in lr= for trainer.lr=
        near = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"did you mean {before}{near[0]}? " if near else ""


def _method(given: dict[str, str]) -> str:
    name = given.get("method", "baseline")
    return name if name in choices("method") else "baseline"


def _check_references(key: str, value: str, kinds: Kinds) -> None:
    """Raises InputError unless each ``${...}`` names another key, whose value can be part of this one's."""
    for name in _REFERENCE.findall(value):
        if name not in kinds or name == key:
            raise InputError(f"{key} = {told(value)} refers to ${{{name}}}, which should be the name of another key")
        ours, theirs = (re.sub(",? or null$", "", wanted(kinds[k])) for k in (key, name))
        if not (theirs == ours or (ours, theirs) == (_NUMBER, _WHOLE) or (ours == _TEXT and theirs in (_NUMBER, _WHOLE))):
            raise InputError(f"{key} = {told(value)} refers to {name}, which is {theirs}; {ours} is needed")
    if "${" in _REFERENCE.sub("", value):
        raise InputError(f"{key} = {told(value)} holds '${{', which stands before the name of a key, as in ${{seed}}")


def _value(kind: Any, key: str, value: str) -> str:
    """A value in Hydra's grammar: text in quotes; the rest as it is, if it is of its type."""
    text, optional = kind is str, kind == (str | None)
    if text or optional:
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            return _quoted(value[1:-1])
        if value == "null":
            if optional:
                return value
            raise InputError(f"{key} = null should be text; write {key}=\"'null'\" for that word")
        return _quoted(os.path.expanduser(value) if value.startswith("~/") or value == "~" else value)
    if _REFERENCE.fullmatch(value):
        return value
    read_value(kind, _parsed(kind, key, value), key)
    return value


def _parsed(kind: Any, key: str, value: str) -> Any:
    """A number, truth value, list or mapping as Hydra reads it.

    >>> _parsed(list[float], "trainer.lr_drops", "[0.5,0.75]")
    [0.5, 0.75]
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString, ValueType
    from hydra.errors import HydraException

    def plain(part: Any) -> Any:
        if isinstance(part, QuotedString):
            return part.text
        if isinstance(part, dict):
            return {plain(name): plain(each) for name, each in part.items()}
        return [plain(each) for each in part] if isinstance(part, list) else part

    needed = InputError(f"{key} = {told(value)} should be {_WANTED.get(kind) or wanted(kind)}")
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
    except (HydraException, RecursionError) as error:
        raise needed from error
    if parsed.value_type is not ValueType.ELEMENT:  # a sweep, such as 1,2
        raise needed
    return plain(parsed.value())


_WANTED = {Any: "a number, a word, or a list such as [1,2]; other text goes into quotes, \"'a b'\""}


def _quoted(text: str) -> str:
    """Text in Hydra's quotes, in which a backslash counts only before a quote.

    >>> print(_quoted("it's C:\\\\"))
    'it\\'s C:\\\\'
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"
