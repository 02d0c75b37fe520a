"""``ro-fast <command> [key=value ...]``: composes the configuration and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ro_fast.errors import InputError, WorkError

COMMANDS = {
    "train": "one adversarial training run: data= model= attack= method= trainer= recipe=",
    "ablate": "a suite of arms × seeds, suite=factors by default, then its report",
    "watch": "curve=PATH (.csv, .jsonl, run folder, TensorBoard file): is it robustly overfitting, since when, how sure",
    "prototype": "check, small runs within budget=10min, one page to decide by: risk, what to do first, what it costs",
    "check": "looks at a data set before any training: labels, duplicates, leakage, shift, margins",
    "evaluate": "checkpoint=PATH: natural, PGD, CW and an AutoAttack-style cascade, with intervals and warnings",
    "export": "checkpoint=PATH: model.safetensors with a model card",
    "report": "run=PATH: rebuilds report.html from what is on disk",
    "bench": "operators, attack and training against the rivals on this machine; fail_under=must makes it a check",
    "doctor": "versions, devices, backends and, for each that is missing, why and what would bring it",
    "build": "compiles the native operators into the installed package",
}


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``ro-fast``; exits with 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    command, *arguments = argv
    if command == "--version":
        from ro_fast import __version__

        print(__version__)
        return 0
    try:
        if command not in COMMANDS:
            raise InputError(f"there is no command '{command}'; there are: {', '.join(COMMANDS)}")
        if command in ("doctor", "build") and not arguments:
            print(_doctor() if command == "doctor" else _build())
        else:
            _run_hydra(command, arguments)
        return 0
    except KeyboardInterrupt:
        state = "nothing was written, this starts anew" if command == "check" else "the state is saved, this goes on"
        print(f"interrupted; {state}: ro-fast {' '.join(argv)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read, as head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("RO_FAST_DEBUG") == "1":
            raise
        code = 2 if _is_bad_input(error) else 1
        hint = "" if isinstance(error, (InputError, WorkError)) or code == 2 else " (RO_FAST_DEBUG=1 shows where)"
        print(f"ro-fast {command}: {_one_line(error)}{hint}", file=sys.stderr)
        return code


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(["usage: ro-fast <command> [key=value ...]", "", *lines, "", "ro-fast <command> --help tells its keys."])


def _train(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.progress import Progress
    from ro_fast.suite.run import epochs_done
    from ro_fast.training.trainer import train

    keep_freed_memory()
    epochs = config.trainer.stop_after or config.trainer.epochs
    with Progress(epochs, "train") as progress:
        if (Path(config.out) / "last.pt").exists():  # without it the run starts anew
            progress.add(min(epochs, epochs_done(Path(config.out))))
        history = train(config, progress)
    last = history[-1]
    print(f"robust test accuracy {last['test_robust_acc']:.3f}, natural {last['test_acc']:.3f}; in {config.out}")


def _ablate(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.progress import Progress
    from ro_fast.report import build_report
    from ro_fast.suite.run import ablate, epochs_to_train

    keep_freed_memory()
    total, done = epochs_to_train(config)
    with Progress(total, "ablate") as progress:
        progress.add(done)
        results = ablate(config, progress)
    report = build_report(Path(config.out))
    print("\n".join(results["finding"]["sentences"]))
    print(f"{results['wall_seconds']:.0f} s; the report: {report}")


def _watch(config: Any) -> None:
    from ro_fast.overfitting.curve_files import read_curve, watch_curve

    if not config.curve:
        wanted = "curve=PATH of a .csv, .jsonl, a run's folder or a TensorBoard event file"
        raise InputError(f"watch: curve= is not given; {wanted} is needed")
    if config.out is not None and not config.out.endswith(".png"):
        raise InputError(f"watch: out={config.out} should be the name of a picture, FILE.png")
    curve = read_curve(config.curve, config.column)
    verdict = watch_curve(curve)
    print("\n".join(verdict.lines()))
    if config.out is not None:
        from ro_fast.report.watch_figure import save_watch_figure
        from ro_fast.storage.run_folder import writing

        with writing(Path(config.out)):
            print(save_watch_figure(curve, verdict, Path(config.out)))


def _check(config: Any) -> None:
    from ro_fast.check import check
    from ro_fast.progress import show_notices

    show_notices()
    result = check(config)
    for finding in result["findings"]:
        if finding["severity"] != "info":
            print(f"{finding['severity']}: {finding['message']}")
    print(f"{result['summary']} {result['wall_seconds']:.0f} s; the page: {Path(config.out) / 'check.html'}")


def _prototype(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.progress import Progress, show_notices
    from ro_fast.prototype import prototype

    keep_freed_memory()
    show_notices()

    def progress(total: int, done: int, title: str) -> Progress:
        shown = Progress(total, title)
        shown.add(done)
        return shown

    result = prototype(config, progress)
    print("\n".join(result["sentences"]))
    print(f"{result['plan']['seconds']:.0f} s; the page: {Path(config.out) / 'report.html'}")


def _evaluate(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.evaluation.checkpoints import evaluate_checkpoint, folder_of, table
    from ro_fast.progress import Progress
    from ro_fast.report.evaluation_figure import save_evaluation_figure

    keep_freed_memory()
    with Progress(100, "evaluate, % of the work at most") as progress:
        found = evaluate_checkpoint(config, lambda share, what: progress.reach(int(100 * share), what))
    print(table(found))
    print(f"the picture: {save_evaluation_figure(found, folder_of(config) / 'evaluation.png')}")


def _export(config: Any) -> None:
    from ro_fast.evaluation.export import export

    print(export(config))


def _report(config: Any) -> None:
    from ro_fast.prototype.page import RESULT, rebuild_page
    from ro_fast.report import build_report

    if not config.run:
        raise InputError("report: run= is not given; the folder of a suite or of a prototype that ran is needed, run=PATH")
    folder, language = Path(config.run), config.report.language
    if (folder / RESULT).exists():
        print(rebuild_page(folder, language))
        return
    if language is not None:
        raise InputError(f"report.language={language}: only the page of a prototype has other languages, and {folder} holds none")
    print(build_report(folder))


def _bench(config: Any) -> None:
    from ro_fast.benchmarks.run import bench

    bench(Path(config.out), config.groups, config.fail_under)


def _doctor() -> str:
    from ro_fast.cli import doctor

    return doctor.report()


def _build() -> str:
    from ro_fast import _build

    return _build.build_in_place()


# -- Hydra -------------------------------------------------------------------------------------------------------------


def compose(command: str, arguments: list[str]) -> Any:
    """The configuration of a command line as a plain dataclass, for use from Python: ``ablate(compose("ablate", ["seeds=2"]))``.

    Raises:
        InputError: where Hydra can't compose it.

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
            return OmegaConf.to_object(hydra_compose(command, [_quoted(argument) for argument in arguments]))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error)) from error


def _quoted(argument: str) -> str:
    """An override whose value Hydra's grammar would not take bare, as a path with spaces or Japanese characters, quoted.

    >>> _quoted("data.path=my 画像"), _quoted("seeds=[0,1]"), _quoted("out='a b'")
    ("data.path='my 画像'", 'seeds=[0,1]', "out='a b'")
    """
    key, equals, value = argument.partition("=")
    if not equals or value[:1] in "'\"[{" or (value.isascii() and " " not in value) or argument.startswith("-"):
        return argument
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _run_hydra(command: str, arguments: list[str]) -> None:
    try:
        import hydra
        from omegaconf import DictConfig, OmegaConf
    except ImportError as error:
        raise InputError(f"{command} needs hydra-core: pip install 'ro_fast[train]'") from error
    _register_schemas()
    does: dict[str, Callable[[Any], None]] = {"train": _train, "ablate": _ablate, "report": _report, "bench": _bench}
    does |= {"watch": _watch, "check": _check, "evaluate": _evaluate, "export": _export}
    does |= {"prototype": _prototype}
    does |= {"doctor": lambda config: print(_doctor()), "build": lambda config: print(_build())}
    composed: list[Any] = []

    def task(config: DictConfig) -> None:
        # The work is done after Hydra has returned: it reports an exception in lines of its own before passing it on.
        composed.append(OmegaConf.to_object(config))

    if not {"-h", "--help"}.isdisjoint(arguments):
        arguments = [*arguments, _with_help(command)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach run() as exceptions
    given, sys.argv = sys.argv, [f"ro-fast {command}", *(_quoted(argument) for argument in arguments)]
    try:
        hydra.main(version_base="1.3", config_path="pkg://ro_fast.configs", config_name=command)(task)()
    except SystemExit as exit:
        if exit.code not in (0, None):
            raise InputError(f"usage: ro-fast {command} [key=value ...]; --help tells its keys") from exit
    finally:
        sys.argv = given
    for config in composed:  # none for --help and --cfg
        does[command](config)


def _schemas() -> dict[str, type]:
    """The dataclass of each command that has keys."""
    from ro_fast import config

    commands: dict[str, type] = {"train": config.TrainConfig, "ablate": config.AblateConfig, "report": config.ReportConfig}
    commands |= {"bench": config.BenchConfig, "watch": config.WatchConfig, "check": config.CheckConfig}
    return commands | {"evaluate": config.EvaluateConfig, "export": config.ExportConfig, "prototype": config.PrototypeConfig}


def _with_help(command: str) -> str:
    """The override that puts our own words into the command's --help."""
    from hydra.core.config_store import ConfigStore

    from ro_fast.cli.help import help_text

    text = help_text(command, COMMANDS[command], _schemas().get(command))
    ConfigStore.instance().store(group="hydra/help", name="ro_fast", node={"app_name": command, "template": text})
    return "hydra/help=ro_fast"


def _register_schemas() -> None:
    from hydra.core.config_store import ConfigStore

    from ro_fast import config

    store = ConfigStore.instance()
    for name, node in _schemas().items():
        store.store(name=f"{name}_schema", node=node)
    groups: dict[str, type] = {"data": config.DataConfig, "model": config.ModelConfig, "attack": config.AttackConfig}
    groups |= {"trainer": config.TrainerConfig, "suite": config.SuiteConfig}
    for group, node in groups.items():
        store.store(group=group, name="schema", node=node)


def _is_bad_input(error: Exception) -> bool:
    if isinstance(error, InputError):
        return True
    try:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
    except ImportError:
        return False
    return isinstance(error, (HydraException, OmegaConfBaseException))


def _one_line(error: BaseException) -> str:
    """An exception's message in one line; of Hydra's the innermost, which names the value that didn't fit."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    if cause is not None and type(error).__module__.startswith("hydra"):
        text = f"{text}: {cause}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "full_key" not in line and "object_type" not in line]
    return " ".join(lines) if lines else type(error).__name__
