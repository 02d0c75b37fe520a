"""Reads a finished suite's folder: results.json and the metrics of each arm and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ro_fast.errors import InputError
from ro_fast.storage.epochs import FILE, read_epochs

VERSION = 2  # of results.json: 2 measures gaps from means over three epochs
METRICS = ("lr", "train_robust_acc", "test_robust_acc", "small_loss_share")
OPTIONAL = ("feature_gap", "feature_gap_natural")  # NaN in epochs, or runs, that were not asked for them
NEEDED = ("suite", "question", "data", "fork_epoch", "epochs_trained", "epochs_without_sharing", "wall_seconds")
NEEDED_OF_ARM = ("name", "seeds", "ro_gap", "last_robust_acc", "last_natural_acc")
NEEDED_OF_SEED = ("seed", "best_epoch", "best_robust_acc", "last_robust_acc", "last_natural_acc", "ro_gap")

Curves = dict[str, dict[str, NDArray[np.float64]]]  # arm → "epoch" [E], others [seeds, E]


def read_results(run_dir: Path) -> dict[str, Any]:
    """results.json of a suite's folder, checked for what the report needs."""
    path = run_dir / "results.json"
    if not path.is_file():
        raise InputError(f"{run_dir} holds no results.json: give the output folder of a finished ro-fast ablate")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no complete JSON ({error}): run the suite again, it resumes") from error
    if isinstance(results, dict) and results.get("version", 1) != VERSION:
        raise InputError(
            f"{path} is of version {results.get('version', 1)}, and {VERSION} is needed, since gaps are measured otherwise now: "
            "run the same ro-fast ablate again, what is trained is kept"
        )
    try:
        _need(results, NEEDED, "the top level")
        if not results["arms"]:
            raise InputError(f"{path} lists no arm: run the suite again")
        for arm in results["arms"]:
            _need(arm, NEEDED_OF_ARM, f"arm {arm.get('name')}")
            for seed in arm["seeds"]:
                _need(seed, NEEDED_OF_SEED, f"a seed of arm {arm['name']}")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a suite's results.json ({error}): run the suite again") from error
    return dict(results)


def read_curves(run_dir: Path, results: Mapping[str, Any]) -> Curves:
    """Every arm's curves, cut to the epochs that all of its seeds have."""
    curves: Curves = {}
    for arm in results["arms"]:
        runs = [_read_metrics(run_dir / "runs" / arm["name"] / f"seed{seed['seed']}") for seed in arm["seeds"]]
        epochs = min(map(len, runs))
        columns = {key: np.array([[line[key] for line in run[:epochs]] for run in runs]) for key in (*METRICS, *OPTIONAL)}
        curves[arm["name"]] = {"epoch": np.array([line["epoch"] for line in runs[0][:epochs]]), **columns}
    return curves


def _read_metrics(folder: Path) -> list[dict[str, float]]:
    lines = read_epochs(folder / FILE, ("epoch", *METRICS))
    columns = ("epoch", *METRICS, *OPTIONAL)
    return [{key: float("nan") if line.get(key) is None else line[key] for key in columns} for line in lines]


def _need(record: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise KeyError(f"{where} lacks {', '.join(missing)}")
