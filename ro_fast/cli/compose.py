"""From a command line to a plain dataclass, through Hydra, which only this module and its arguments.py use."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from ro_fast import config as schemas
from ro_fast.cli.arguments import for_hydra
from ro_fast.cli.commands import COMMANDS
from ro_fast.cli.keys import choices, groups_of
from ro_fast.config_values import check_values, told
from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.methods.options import common_defaults

LAUNCHERS = ("hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-ray-launcher", "hydra-rq-launcher")

# Groups of configs/ whose files are checked against a dataclass.
_GROUPS: dict[str, type] = {
    "data": schemas.DataConfig,
    "model": schemas.ModelConfig,
    "attack": schemas.AttackConfig,
    "trainer": schemas.TrainerConfig,
    "suite": schemas.SuiteConfig,
    "launcher": schemas.LauncherConfig,
}


def compose(command: str, arguments: list[str]) -> Any:
    """The configuration of a command line as a plain dataclass, for use from Python: ``ablate(compose("ablate", ["seeds=2"]))``.

    Raises:
        InputError: if a key is unknown or a value can't be one of its key.

    >>> compose("ablate", ["suite=dose", "trainer.epochs=8"]).trainer.epochs
    8
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    _register_schemas()
    overrides = _overrides(command, arguments)
    with _in_our_words(command), initialize_config_module("ro_fast.configs", version_base="1.3"):
        return _checked(hydra_compose(command, overrides))


def composed(command: str, arguments: list[str]) -> list[Any]:
    """The configuration of a command line whose flags Hydra handles: empty for ``--cfg job``, which Hydra has then printed."""
    try:
        import hydra
    except ImportError as error:
        raise InputError(f"{command} needs hydra-core: {pip_install('train')}") from error
    sweep = [argument for argument in arguments if argument in ("-m", "--multirun")]
    arguments = [*sweep, *(argument for argument in arguments if argument not in sweep)]  # else argparse ends the keys there
    _register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach the caller as exceptions
    _check_launcher(arguments)
    given, sys.argv = sys.argv, [f"ro-fast {command}", *_overrides(command, arguments)]
    said = io.StringIO()
    _here.clear()
    try:
        with _in_our_words(command), contextlib.redirect_stderr(said):
            hydra.main(version_base="1.3", config_path="pkg://ro_fast.configs", config_name=command)(partial(_job, command))()
            return [_checked(config) for config in _here]
    except SystemExit as exit:
        if exit.code not in (0, None):
            reason = said.getvalue().strip().rpartition("error: ")[2].partition(" (choose")[0]
            raise InputError(f"{reason}; usage: ro-fast {command} [key=value ...]; --help lists its keys") from exit
        return []
    finally:
        sys.argv = given


_here: list[Any] = []  # what was composed for this process


def _job(command: str, config: Any) -> None:
    """What Hydra calls for each configuration, in this process or where a launcher runs it: there the work is done at once.

    In this process it is done after Hydra has returned, which would print a report of its own on an exception.
    """
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
        _here.append(config)
    else:
        COMMANDS[command].run(_checked(config))


def _check_launcher(arguments: list[str]) -> None:
    """Raises InputError if Hydra's launcher is not installed, or named for a single run, which Hydra does without it."""
    name = next((argument.partition("=")[2] for argument in arguments if argument.startswith("hydra/launcher=")), None)
    if name is None:
        return
    if not {"-m", "--multirun"} & set(arguments):
        raise InputError(f"hydra/launcher={told(name)} starts the runs of a sweep; add -m")
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # which register their launchers
    there = sorted(file.removesuffix(".yaml") for file in ConfigStore.instance().repo["hydra"].get("launcher", {}))
    if name not in there:
        package = f"hydra-{name.partition('_')[0]}-launcher"
        hint = f"; pip install {package}" if package in LAUNCHERS else ""
        raise InputError(f"hydra/launcher={told(name)} is not installed{hint}; available: {', '.join(there)}")


def _checked(config: Any) -> Any:
    """A composed configuration as its dataclass, every value checked."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_object(config)
    check_values(plain)
    return plain


@contextlib.contextmanager
def _in_our_words(command: str) -> Iterator[None]:
    """Turns what Hydra still finds wrong with checked arguments into a sentence about them."""
    from hydra.errors import HydraException
    from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

    try:
        yield
    except (InterpolationResolutionError, RecursionError) as error:
        raise InputError("a ${key} refers to itself by way of others; write the value instead") from error
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None)
        where = f"{key} can't have the value given for it" if key else "the arguments don't fit together"
        raise InputError(f"{where}; ro-fast {command} --help lists the keys (RO_FAST_DEBUG=1 shows more)") from error


def _overrides(command: str, arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them."""
    schema = COMMANDS[command].schema
    if schema is None:
        if arguments and not arguments[0].startswith("-"):
            raise InputError(f"{arguments[0]} is not a key: ro-fast {command} takes none")
        return arguments
    return _with_recipe(schema, for_hydra(command, schema, _with_source(schema, arguments)))


def _with_source(schema: type, arguments: list[str]) -> list[str]:
    """The arguments with ``data=NAME`` for data.path= without it: the source that reads what lies there, which is said.

    Raises:
        InputError: if that can't be told, or several paths are of several sources.
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    value = given.get("data.path", "null")
    if {"data", "data.name"} & set(given) or value == "null" or "data" not in groups_of(schema):
        return arguments
    from ro_fast.data.infer import source_at
    from ro_fast.data.notices import say_once

    paths = value.split(",") if {"-m", "--multirun"} & set(arguments) and not os.path.exists(value) else [value]
    found = dict(source_at(path[1:-1] if path[1:] and path[0] == path[-1] and path[0] in "'\"" else path) for path in paths)
    if len(found) > 1:
        raise InputError(f"data.path={value} is of several kinds ({', '.join(found)}); give one kind at a time, and data=NAME")
    ((name, why),) = found.items()
    say_once(f"data.path={value} is read as data={name} ({why})")
    return _beside("data.path", f"data={name}", arguments)


def _with_recipe(schema: type, arguments: list[str]) -> list[str]:
    """The arguments with ``recipe=NAME`` for ``data=NAME``, where configs/recipe has one of that name and none is asked for.

    >>> _with_recipe(schemas.AblateConfig, ["data=tops", "seeds=2"])
    ['recipe=tops', 'data=tops', 'seeds=2']
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if "recipe" in given or not issubclass(schema, schemas.TrainConfig) or given.get("data") not in choices("recipe"):
        return arguments
    return _beside("data", f"recipe={given['data']}", arguments)


def _beside(key: str, more: str, arguments: list[str]) -> list[str]:
    """The arguments with one more before that of a key: argparse takes those with = only in one row, not around flags.

    >>> _beside("data.path", "data=npz", ["--cfg", "job", "data.path=a.npz"])
    ['--cfg', 'job', 'data=npz', 'data.path=a.npz']
    """
    place = next(i for i, argument in enumerate(arguments) if argument.partition("=")[0] == key)
    return [*arguments[:place], more, *arguments[place:]]


def _register_schemas() -> None:
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, command in COMMANDS.items():
        if command.schema is not None:
            store.store(name=f"{name}_schema", node=command.schema)
    for group, node in _GROUPS.items():
        store.store(group=group, name="schema", node=node)
    store.store(group="method", name="common", node=common_defaults())
