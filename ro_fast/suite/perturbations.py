"""Adversarial perturbations on training compared with test data, for two checkpoints of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.borrow import borrowed
from ro_fast.config import TrainConfig
from ro_fast.data import ImageData
from ro_fast.environment import choose_device
from ro_fast.features.reader import PENULTIMATE, FeatureReader
from ro_fast.ops import class_moments, weighted_cross_entropy
from ro_fast.storage import records
from ro_fast.training.trainer import Run


def compare_checkpoints(config: TrainConfig, fork: Path, data: ImageData) -> None:
    """Writes a finished run's ``perturbations.json``, unless it exists: compares those of the model at the fork and at the end.

    They are computed on the subsets on which the run's features are measured.

    Args:
        config: the run's, with features.every.
        fork: folder of the common run from which it forked.
        data: the run's.
    """
    path = Path(config.out) / "perturbations.json"
    if path.exists():
        return
    device = choose_device(config.device)
    runs = {}
    for name, folder in (("fork", fork), ("last", path.parent)):
        runs[name] = Run(config, data.to(device), device)
        runs[name].restore_from(folder / "last.pt")
    run = runs["last"]
    assert run.observer is not None, "a run whose features are measured"
    train, test = run.observer.train, run.observer.test
    sets = {
        "train": (run.inputs(run.data.x_train[train]), run.data.y_train[train]),
        "test": (run.inputs(run.data.x_test[test]), run.data.y_test[test]),
    }
    models = {name: run.judged for name, run in runs.items()}
    found = compare_perturbations(models, sets, run.eval_attack, data.num_classes)
    records.write(path, found)


def compare_perturbations(
    models: dict[str, nn.Module],  # name -> model, two of them
    sets: dict[str, tuple[Tensor, Tensor]],  # "train", "test" -> x [N, ...], y int64 [N]
    attack: PGD,
    num_classes: int,
) -> dict[str, dict[str, float]]:
    """Compares perturbations computed on each model, from the same noise, on each set.

    Returns:
        set -> name -> number:

        * ``displacement_<model>``: mean ``‖h(x + δ) − h(x)‖ / √(tr S_B / N)`` of penultimate features h: how far δ moves a
          sample, in units of the classes' distance from their common mean.
        * ``loss_gain_<model>``: mean rise of the cross-entropy due to δ; ``loss_gain_first_step_<model>``: due to its first step.
        * ``sign_agreement``: fraction of values at which both models' δ have the same sign, where both are non-zero.
        * ``transfer_<a>_to_<b>``: the rise of b's cross-entropy due to the δ computed on a, relative to that due to its own.
    """
    (first, a), (second, b) = models.items()
    found: dict[str, dict[str, float]] = {}
    for name, (x, y) in sets.items():
        deltas, gains, numbers = {}, {}, {}
        for model_name, model in ((first, a), (second, b)):
            seeded = torch.Generator(x.device).manual_seed(0)
            x_adv = dataclasses.replace(attack, generator=seeded)(model, x, y)
            once = dataclasses.replace(attack, steps=1, random_start=False)(model, x, y)
            deltas[model_name] = x_adv - x
            gains[model_name] = _gain(model, x, x_adv, y)
            numbers[f"displacement_{model_name}"] = _displacement(model, x, x_adv, y, num_classes)
            numbers[f"loss_gain_{model_name}"] = gains[model_name]
            numbers[f"loss_gain_first_step_{model_name}"] = _gain(model, x, once, y)
        both = (deltas[first] != 0) & (deltas[second] != 0)
        agree = (deltas[first].sign() == deltas[second].sign()) & both
        numbers["sign_agreement"] = float(agree.sum() / both.sum().clamp(min=1))
        for source, target, model in ((first, second, b), (second, first, a)):
            numbers[f"transfer_{source}_to_{target}"] = _gain(model, x, x + deltas[source], y) / max(gains[target], 1e-12)
        found[name] = numbers
    return found


@torch.no_grad()
def _gain(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> float:
    with borrowed(model, "eval"):
        return float(weighted_cross_entropy(model(x_adv), y) - weighted_cross_entropy(model(x), y))


@torch.no_grad()
def _displacement(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, num_classes: int) -> float:
    reader = FeatureReader(model, [PENULTIMATE])
    with borrowed(model, "eval"):
        natural, moved = (reader(t)[1][PENULTIMATE] for t in (x, x_adv))
    spread = class_moments(natural, y, num_classes, covariance=True).between.trace() / len(y)
    return float((moved - natural).norm(dim=1).mean() / spread.sqrt())
