"""From a command line to a plain dataclass, through Hydra: the only module that uses it."""

from __future__ import annotations

import os
import sys
from importlib import resources
from typing import Any

from ro_fast import config as schemas
from ro_fast.cli.commands import COMMANDS
from ro_fast.errors import InputError
from ro_fast.methods.options import common_defaults

# Groups of configs/ whose files are checked against a dataclass.
_GROUPS: dict[str, type] = {
    "data": schemas.DataConfig,
    "model": schemas.ModelConfig,
    "attack": schemas.AttackConfig,
    "trainer": schemas.TrainerConfig,
    "suite": schemas.SuiteConfig,
}


def compose(command: str, arguments: list[str]) -> Any:
    """The configuration of a command line as a plain dataclass, for use from Python: ``ablate(compose("ablate", ["seeds=2"]))``.

    Raises:
        InputError: if Hydra can't compose it.

    >>> compose("ablate", ["suite=dose", "trainer.epochs=8"]).trainer.epochs
    8
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _register_schemas()
    try:
        with initialize_config_module("ro_fast.configs", version_base="1.3"):
            return OmegaConf.to_object(hydra_compose(command, _overrides(command, arguments)))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from error


def composed(command: str, arguments: list[str]) -> list[Any]:
    """The configuration of a command line whose flags Hydra handles: empty for ``--cfg job``, which Hydra has then printed."""
    try:
        import hydra
        from omegaconf import DictConfig, OmegaConf
    except ImportError as error:
        raise InputError(f"{command} needs hydra-core: pip install 'ro_fast[train]'") from error
    _register_schemas()
    found: list[Any] = []

    def task(config: DictConfig) -> None:
        # The work is done after Hydra has returned: Hydra would print its own report of an exception before passing it on.
        found.append(OmegaConf.to_object(config))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach the caller as exceptions
    given, sys.argv = sys.argv, [f"ro-fast {command}", *_overrides(command, arguments)]
    try:
        hydra.main(version_base="1.3", config_path="pkg://ro_fast.configs", config_name=command)(task)()
    except SystemExit as exit:
        if exit.code not in (0, None):
            raise InputError(f"usage: ro-fast {command} [key=value ...]; --help lists its keys") from exit
    finally:
        sys.argv = given
    return found


def _overrides(command: str, arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them."""
    return [_quoted(argument) for argument in _with_recipe(command, arguments)]


def _with_recipe(command: str, arguments: list[str]) -> list[str]:
    """The arguments with ``recipe=NAME`` for ``data=NAME``, where configs/recipe has one of that name and none is asked for.

    >>> _with_recipe("ablate", ["data=tops", "seeds=2"])
    ['recipe=tops', 'data=tops', 'seeds=2']
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    schema, recipe = COMMANDS[command].schema, f"{given.get('data')}.yaml"
    trains = schema is not None and issubclass(schema, schemas.TrainConfig)
    if "recipe" in given or not trains or not (resources.files("ro_fast.configs") / "recipe" / recipe).is_file():
        return arguments
    return [f"recipe={given['data']}", *arguments]  # before any flag


def _register_schemas() -> None:
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, command in COMMANDS.items():
        if command.schema is not None:
            store.store(name=f"{name}_schema", node=command.schema)
    for group, node in _GROUPS.items():
        store.store(group=group, name="schema", node=node)
    store.store(group="method", name="common", node=common_defaults())


def _quoted(argument: str) -> str:
    """Quotes an override whose value Hydra's grammar would not accept bare, such as a path with spaces or Japanese characters.

    >>> _quoted("data.path=my 画像"), _quoted("seeds=[0,1]"), _quoted("out='a b'")
    ("data.path='my 画像'", 'seeds=[0,1]', "out='a b'")
    """
    key, equals, value = argument.partition("=")
    if not equals or value[:1] in "'\"[{" or (value.isascii() and " " not in value) or argument.startswith("-"):
        return argument
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def is_bad_input(error: Exception) -> bool:
    """Whether an exception is about the user's input rather than the work."""
    if isinstance(error, InputError):
        return True
    try:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
    except ImportError:
        return False
    return isinstance(error, (HydraException, OmegaConfBaseException))


def one_line(error: BaseException) -> str:
    """An exception's message in one line; for Hydra's, the innermost, which names the value that didn't fit."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    if cause is not None and type(error).__module__.startswith("hydra"):
        text = f"{text}: {cause}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "full_key" not in line and "object_type" not in line]
    return " ".join(lines) if lines else type(error).__name__
