"""What a finished run is worth: its best and its last state under a strong attack, and the memory that its training takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ro_fast import checkpoint
from ro_fast.config import TrainConfig
from ro_fast.data import ImageData
from ro_fast.environment import choose_device
from ro_fast.evaluate import evaluate
from ro_fast.step_memory import step_memory_mb
from ro_fast.teachers import gather
from ro_fast.trainer import Run

STATES = ("best", "last")


def write_final_scores(config: TrainConfig, data: ImageData, steps: int) -> None:
    """Writes a finished run's ``scores.json``, unless it is there with as many steps: see :func:`final_scores`."""
    path = Path(config.out) / "scores.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")).get("steps") == steps:
        return
    device = choose_device(config.device)
    helped = gather(config, data, device)
    run = Run(config, helped.data.to(device), device, helped.teachers)
    found: dict[str, Any] = {"steps": steps}
    for state in STATES:
        run.restore(checkpoint.load(run.folder / f"{state}.pt"))
        found[state] = final_scores(run, run.judged, steps)
    run.epoch = config.trainer.epochs - 1  # the method is on, as in most of the run
    found["step_mb"] = step_memory_mb(run)
    checkpoint.write_text(path, json.dumps(found, indent=1))


def final_scores(run: Run, model: nn.Module, steps: int) -> dict[str, float]:
    """Test accuracies of one state of a run, as fractions.

    Returns:
        "natural", and "pgd", under PGD of so many steps of the training attack's radius, from the same noise for all.
    """
    noise = torch.Generator(run.device).manual_seed(run.config.seed)
    attack = dataclasses.replace(run.eval_attack, steps=steps, generator=noise)
    x, y = run.data.x_test, run.data.y_test
    scores = evaluate(model, lambda index: run.inputs(x[index]), y, attack, run.config.trainer.eval_batch_size)
    return {"natural": scores.acc, "pgd": scores.robust_acc}
