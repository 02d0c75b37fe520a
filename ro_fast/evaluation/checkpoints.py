"""``ro-fast evaluate``: checkpoints through :func:`ro_fast.evaluation.evaluate_model`, resumed at the attack it had reached."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ro_fast.attacks.cascade import Stage
from ro_fast.config import EvaluateConfig
from ro_fast.config_values import check_values
from ro_fast.data.naming import as_options
from ro_fast.data.subsets import balanced_subset, stream
from ro_fast.environment import Environment, choose_device, environment, use_threads
from ro_fast.errors import InputError
from ro_fast.evaluation.evaluate import Evaluation, Hooks, attacks_of, evaluate_model
from ro_fast.evaluation.levels import LEVELS, Settings, measure_pace, work
from ro_fast.evaluation.load import Trained, checkpoints_in, file_digest, load_trained, read
from ro_fast.progress import clock
from ro_fast.storage import checkpoint, records
from ro_fast.storage.paths import own_folder
from ro_fast.storage.run_folder import alone_in

_log = logging.getLogger("ro_fast")
RESULT = "evaluation.json"
WRITTEN = (RESULT, "evaluation.html", "evaluation.png")
Tell = Callable[[float, str], None]  # completed fraction of the maximum work, and what was done last


@dataclass(frozen=True)
class OfCheckpoint(Evaluation):
    """An evaluation and the number of epochs for which the weights were trained."""

    epoch: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """The contents of evaluation.json."""

    checkpoint: str
    data: str
    models: dict[str, OfCheckpoint]  # "best", "last", or the file's name
    environment: Environment


def evaluate_checkpoint(config: EvaluateConfig, tell: Tell | None = None) -> Evaluated:
    """Evaluates a checkpoint, or best and last of a run, on the test images, and writes ``out/evaluation.json``.

    After each attack its flags are stored in ``out/stages.pt``; the same command continues from there.

    Raises:
        InputError: if a checkpoint, the data or a setting doesn't fit, or the folder holds another evaluation.
        StorageError: if results can't be written; finished attacks are kept.
    """
    if not config.checkpoint:
        raise InputError(
            "evaluate: checkpoint= is not given; a run's folder, its best.pt or last.pt, or a .safetensors is needed"
        )
    check_values(config)
    if config.norm not in (None, "linf", "l2"):
        raise InputError(f"norm '{config.norm}' is unknown; available: linf, l2")
    use_threads(config.threads)
    device = choose_device(config.device)
    settings = settings_of(config)
    paths = checkpoints_in(Path(config.checkpoint), config.state)
    out = own_folder(str(folder_of(config)), _signs(folder_of(config)), WRITTEN)
    models: dict[str, OfCheckpoint] = {}
    with alone_in(out):
        for i, (name, path) in enumerate(paths.items()):
            trained = load_trained(read(path), device, config.data, config.model)
            store = _Store(out, name, _identity(config, trained, settings))
            part = None if tell is None else _part_of(tell, i, len(paths))
            evaluation = _evaluate(config, trained, settings, store, part)
            models[name] = OfCheckpoint(**vars(evaluation), epoch=trained.stored.epoch)
            found = Evaluated(config.checkpoint, trained.data.name, models, environment(device))
            records.write(out / RESULT, found)
    return found


def read_evaluation(path: Path) -> Evaluated:
    """The contents of an evaluation.json.

    Raises:
        InputError: if the file is missing, or not an evaluation's.
    """
    return records.read(Evaluated, path, "ro-fast evaluate writes an evaluation.json")


def folder_of(config: EvaluateConfig) -> Path:
    """Where an evaluation is written."""
    return Path(config.out or Path("outputs") / "evaluate" / default_name(Path(config.checkpoint)))


def _signs(folder: Path) -> tuple[str, ...]:
    """What an earlier evaluation has left in a folder."""
    stages = tuple(path.name for path in folder.glob("stages-*.pt"))
    if not stages and (folder / RESULT).is_file():
        with contextlib.suppress(InputError):  # somebody else's, or damaged
            read_evaluation(folder / RESULT)
            return (RESULT,)
    return stages


def default_name(path: Path) -> str:
    """The name of an evaluation: the run's folder, and the file if one is named."""
    path = path.resolve()
    return path.name if path.is_dir() else f"{path.parent.name}-{path.stem}"


def table(found: Evaluated) -> str:
    """A few lines of human-readable text."""
    first = next(iter(found.models.values()))
    heads = ["natural", f"PGD-{first.settings.steps}", f"CW-{first.settings.steps}", *first.cascade]
    lines = [" ".join([f"{'':12}", *(f"{head:>8}" for head in heads), "  95 % interval of the last"])]
    for name, one in found.models.items():
        results = [one.natural, one.pgd, one.cw, *one.cascade.values()]
        low, high = results[-1].ci95
        lines.append(" ".join([f"{name:12}", *(f"{result.acc:8.4f}" for result in results), f"  {low:.4f} to {high:.4f}"]))
    lines.append(f"{first.samples} samples, {first.norm} ε = {first.eps:.4g}. {first.note}")
    for name, one in found.models.items():
        worst = [f"{c.name or c.label} {c.robust_acc:.3f} of {c.samples}" for c in one.by_class[:3]]
        lines += [f"least robust classes, {name}: {', '.join(worst)}"] if len(one.by_class) > 2 else []
    lines += [f"warning, {name}: {warning}" for name, one in found.models.items() for warning in one.warnings]
    return "\n".join(lines)


def settings_of(config: EvaluateConfig) -> Settings:
    """Those of the level, and the values given besides.

    Raises:
        InputError: on an unknown level.
    """
    if config.level not in LEVELS:
        raise InputError(f"level '{config.level}' is unknown; available: {', '.join(LEVELS)}")
    level = LEVELS[config.level]
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)}
    return replace(level, **{name: value for name, value in given.items() if value is not None})


def _where_all_are(trained: Trained) -> str:
    """How to get at the test images that a run's own data leave out, "" if they leave out none."""
    data = trained.data_config
    if data.test_size is None and data.train_size is None:
        return ""
    whole = replace(data, train_size=None, test_size=None, val_size=None)
    return f", as the run took a part of them; for all, add {as_options(whole)}"


def _evaluate(config: EvaluateConfig, trained: Trained, settings: Settings, store: _Store, tell: Tell | None) -> Evaluation:
    data = trained.data
    x, y = data.x_test, data.y_test
    if config.samples is not None:
        if config.samples > len(y):
            raise InputError(f"samples = {config.samples}; {data.name} has {len(y)} test images here{_where_all_are(trained)}")
        index = torch.from_numpy(balanced_subset(y.numpy(), config.samples, stream(trained.data_config.seed, "test")))
        x, y = x[index], y[index]
    x = data.images(x)
    norm, eps = config.norm or trained.norm, trained.eps if config.eps is None else config.eps
    attacks_of(eps, norm, settings)  # a budget that doesn't fit is told before anything is measured
    progress = _Progress(settings, len(y), data.num_classes, norm, tell)

    def on_stage(stage: Stage) -> None:
        store.keep(stage)
        progress.stage(stage)

    for stage in store.stages.values():
        progress.stage(stage)
    if not store.stages:
        _announce(trained, settings, x, y, eps, norm)
    hooks = Hooks({name: _on(stage, trained) for name, stage in store.stages.items()}, on_stage, progress.within)
    found = evaluate_model(trained.model, x, y, eps, norm=norm, settings=settings, hooks=hooks)
    names = data.class_names
    return dataclasses.replace(found, by_class=[replace(c, name=names[c.label] if names else None) for c in found.by_class])


def _announce(trained: Trained, settings: Settings, x: Tensor, y: Tensor, eps: float, norm: str) -> None:
    """Says how long the evaluation takes at most, and the other levels, measured on a few samples."""
    device = next(trained.model.parameters()).device
    few = slice(settings.batch_size)
    pace = measure_pace(trained.model, x[few].to(device), y[few].to(device), eps, norm)

    def at_most(chosen: Settings) -> str:
        return clock(pace.at_most(chosen, len(y), trained.data.num_classes, norm))

    levels = ", ".join(f"{name} {at_most(level)}" for name, level in LEVELS.items())
    _log.info("%s: %d samples, about %s at most (level: %s)", trained.stored.path.name, len(y), at_most(settings), levels)


def _on(stage: Stage, trained: Trained) -> Stage:
    device = next(trained.model.parameters()).device
    return dataclasses.replace(stage, robust=stage.robust.to(device))


def _stage(stored: checkpoint.State) -> Stage:
    """The flags of one attack as stored; raises what a wrong part raises."""
    if stored["robust"].dtype != torch.bool or stored["robust"].dim() != 1:
        raise TypeError("robust should be bool [N]")
    return Stage(str(stored["name"]), int(stored["tried"]), stored["robust"], int(stored["work"]), float(stored["seconds"]))


def _identity(config: EvaluateConfig, trained: Trained, settings: Settings) -> checkpoint.Flat:
    """Everything that the flags depend on."""
    return {
        "weights": file_digest(trained.stored.path),
        "data": trained.data.fingerprint(),
        "model": str(trained.model_config),
        "samples": config.samples,
        "eps": trained.eps if config.eps is None else config.eps,
        "norm": config.norm or trained.norm,
        **{key: value for key, value in dataclasses.asdict(settings).items() if key not in ("batch_size", "masking")},
    }


class _Store:
    """The flags after each attack, on disk."""

    def __init__(self, out: Path, name: str, identity: checkpoint.Flat) -> None:
        self.file, self.identity = out / f"stages-{name.replace('/', '-')}.pt", identity
        self.stages: dict[str, Stage] = {}
        if self.file.exists():
            state = checkpoint.load(self.file)
            with checkpoint.taking_apart(self.file):
                unlike = checkpoint.differences(identity, state["identity"])
                if unlike:
                    raise InputError(f"{out} holds another evaluation ({unlike}); choose another out=")
                self.stages = {name: _stage(values) for name, values in state["stages"].items()}

    def keep(self, stage: Stage) -> None:
        """Adds one attack's flags."""
        self.stages[stage.name] = dataclasses.replace(stage, robust=stage.robust.cpu())
        state = {"identity": self.identity, "stages": {name: dict(vars(s)) for name, s in self.stages.items()}}
        checkpoint.save(self.file, state)


class _Progress:
    """The fraction of the maximum work, in forwards: broken samples count as if they had been attacked to the end."""

    def __init__(self, s: Settings, samples: int, classes: int, norm: str, tell: Tell | None) -> None:
        self.samples, self.tell = samples, tell
        self.passes = {"apgd_ce": s.restarts, "apgd_t": s.restarts * min(s.targets, classes - 1)}
        self.cost = work(s, classes, norm)
        self.done, self.base = 0.0, sum(self.cost.values())

    def within(self, name: str, turn: int, settled: int) -> None:
        """Receives progress from within an attack."""
        share = (turn + settled / self.samples) / self.passes.get(name, 1)
        self._tell(self.done + self.cost[name] * min(1.0, share), name)

    def stage(self, stage: Stage) -> None:
        """Receives the end of an attack."""
        self.done += self.cost.get(stage.name, 0)
        self._tell(self.done, f"{stage.name}, accuracy {stage.robust.double().mean().item():.3f}")

    def _tell(self, done: float, what: str) -> None:
        if self.tell is not None:
            self.tell(done / self.base, what)


def _part_of(tell: Tell, i: int, parts: int) -> Tell:
    return lambda share, what: tell((i + share) / parts, what)
