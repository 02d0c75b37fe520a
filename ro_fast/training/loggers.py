"""A run's metrics in TensorBoard and Weights & Biases as well: ``trainer.log=[tensorboard,wandb]``.

A log lies in the run's folder and holds each epoch once, as metrics.jsonl does. When a run is opened, its own log there is
replaced by one of the finished epochs, and each further epoch is appended. So a log may be switched on at any time, a killed
run leaves no gap and no duplicate epoch, and a run forked from another's state shows that run's epochs too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ro_fast.config import TrainConfig
from ro_fast.errors import InputError
from ro_fast.progress import EpochDone, Listener
from ro_fast.storage import checkpoint
from ro_fast.storage.epochs import Epoch
from ro_fast.storage.records import as_json
from ro_fast.storage.saving import saving, writing


def check_logs(names: list[str]) -> None:
    """Raises InputError if a log is unknown or its library is missing."""
    for name in names:
        if name not in BACKENDS:
            raise InputError(f"trainer.log holds '{name}', which is unknown; available: {', '.join(BACKENDS)}")
        if importlib.util.find_spec(name) is None:
            raise InputError(f"trainer.log holds '{name}', which is not installed: pip install {name}")


@contextlib.contextmanager
def logged(config: TrainConfig, history: list[Epoch], listener: Listener | None) -> Iterator[Listener | None]:
    """A listener that first rewrites ``history`` into each of ``config.trainer.log``.

    Raises:
        InputError: if a log can't be started.
        StorageError: if an epoch can't be written.
    """
    if not config.trainer.log:
        yield listener
        return
    folder = Path(config.out)
    with contextlib.ExitStack() as stack:
        with writing(folder):
            logs = [stack.enter_context(contextlib.closing(BACKENDS[name](folder, config))) for name in config.trainer.log]
        written = 0

        def write() -> None:
            nonlocal written
            for done in history[written:]:
                with saving(folder):
                    for log in logs:
                        log.write(done.epoch, scalars(as_json(done)))
            written = len(history)

        def told(event: EpochDone) -> None:
            write()
            if listener is not None:
                listener(event)

        write()
        yield told


def scalars(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers among an epoch's metrics, nested ones under their paths.

    >>> scalars({"epoch": 3, "lr": 0.1, "features": {"penultimate": {"feature_gap": 0.2}}, "note": "x"})
    {'lr': 0.1, 'features/penultimate/feature_gap': 0.2}
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and prefix + name != "epoch":
            found[prefix + name] = value
    return found


class _TensorBoard:
    """Events below ``tensorboard/``, with the epoch as step."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run below ``wandb/``, offline unless the environment's WANDB_MODE says otherwise; ``wandb sync`` uploads it."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        # Its error reports look up a host even offline. The setting is read when W&B is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run = checkpoint.digest(checkpoint.flat(config))
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        for old in (folder / "wandb").glob(f"offline-run-*-{run}"):
            shutil.rmtree(old)
        # Only metrics and config: neither code, git state, console output nor the machine's load.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            dir=str(folder),
            project=os.environ.get("WANDB_PROJECT", "ro_fast"),
            id=run,
            name=f"{config.data.name} {config.model.name} {config.method['name']} seed {config.seed}",
            config=dataclasses.asdict(config),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def write(self, epoch: int, values: dict[str, float]) -> None:
        if epoch >= self._run.step:  # online, the server has what an earlier process sent
            self._run.log(values, step=epoch)

    def close(self) -> None:
        self._run.finish()  # its service process writes the rest shortly afterwards


BACKENDS: dict[str, type[_TensorBoard] | type[_WandB]] = {"tensorboard": _TensorBoard, "wandb": _WandB}
