"""Teachers: networks trained beforehand on the run's own data, for methods that use their outputs and for pseudo-labels."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ro_fast.config import TrainConfig, changed
from ro_fast.data import ImageData
from ro_fast.data.stored_images import in_memory
from ro_fast.environment import environment
from ro_fast.findings.outcomes import Cost
from ro_fast.methods import Options, teachers_of
from ro_fast.parallel import joined
from ro_fast.storage import checkpoint
from ro_fast.storage.epochs import Epoch
from ro_fast.storage.run_folder import lock_of

_log = logging.getLogger("ro_fast")
_BEST = ("robust",)  # the others have no robust accuracy by which to choose their best state, so their last one is used
Trained = Callable[[TrainConfig, ImageData], tuple[nn.Module, list[Epoch]]]


@dataclass(frozen=True)
class Helped:
    """What exists before a run begins."""

    data: ImageData  # with pseudo-labels for images that had no label
    teachers: dict[str, nn.Module]
    costs: dict[str, Cost]  # teacher -> the cost of its training


def gather(config: TrainConfig, data: ImageData, device: torch.device, train: Trained) -> Helped:
    """Trains the teachers required by a run's method and data, or finds them trained, and labels the extra images.

    ``train`` trains or continues a run and returns its model and metrics: a teacher is a run like any other.

    Extra images without labels get the classes predicted by a network trained without attack on the labelled images alone
    (Carmon et al. 2019, arXiv 1905.13736), and become training images like the others.
    """
    labelled = dataclasses.replace(data, x_extra=None, y_extra=None)
    teachers, costs = {}, {}
    for name, method in teachers_of(config.method).items():
        state = "best" if name in _BEST else "last"
        teachers[name], costs[name] = teacher(config, name, method, labelled, device, train, state)
    if data.x_extra is None:
        return Helped(data, teachers, costs)
    y = data.y_extra
    if y is None:
        model, costs["pseudo_labels"] = teacher(config, "pseudo_labels", {"name": "natural"}, labelled, device, train)
        y = _answers(model, data, data.x_extra, config.trainer.eval_batch_size, device)
    x_train, y_train = torch.cat([in_memory(data.x_train, 2), data.x_extra]), torch.cat([data.y_train, y])
    return Helped(dataclasses.replace(labelled, x_train=x_train, y_train=y_train, redrawn=None), teachers, costs)


def teacher(
    config: TrainConfig, name: str, method: Options, data: ImageData, device: torch.device, train: Trained, state: str = "last"
) -> tuple[nn.Module, Cost]:
    """A network of the run's kind in eval mode, trained by another method with all else the same, and its cost.

    It is stored in ``config.teachers`` under a name derived from all that it depends on: runs that need the same one share it,
    and processes that need it at once wait for each other. Each run is charged its full cost, as if it were for that run alone.
    """
    changes = {"method": method, "features.every": 0, "trainer.stop_after": None}
    changes |= {"data.induced": None, "data.induced_test": False}
    own = changed(config, {**changes, "out": "", "teachers": "", "data.extra": None})
    folder = Path(config.teachers) / checkpoint.digest(checkpoint.flat(own), data.fingerprint(), environment(device))
    own = changed(config, {**changes, "out": str(folder)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Global random numbers belong to the requesting run, which continues as if it had found the teacher trained.
    lock = lock_of(Path(f"{folder}.lock")) if joined(device.type).first else contextlib.nullcontext()
    with lock, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if not (folder / "last.pt").exists():
            _log.info("teacher %s: training for %d epochs, for all runs that need it", name, own.trainer.epochs)
        model, history = train(own, data)
    chosen = folder / f"{state}.pt"
    stored = checkpoint.load(chosen)
    with checkpoint.taking_apart(chosen):
        model.load_state_dict(stored["model"])
    for p in model.parameters():
        p.requires_grad_(False)
    return model.eval(), Cost(sum(epoch.gflop for epoch in history), sum(epoch.train_seconds for epoch in history))


@torch.no_grad()
def _answers(model: nn.Module, data: ImageData, x: Tensor, batch_size: int, device: torch.device) -> Tensor:
    return torch.cat([model(data.images(part.to(device))).argmax(1) for part in x.split(batch_size)]).to(data.y_train.device)
