"""The folder of a suite that was never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.studies import arms_of, epoch, factors, run
from ro_fast.config import ArmConfig, SmallLossConfig
from ro_fast.environment import Environment
from ro_fast.findings.outcomes import summarise_run
from ro_fast.findings.study import VERSION, Results
from ro_fast.findings.verdict import compare_arms, write_finding
from ro_fast.storage import records
from ro_fast.storage.epochs import Epoch, written

SUITE = factors()
EPOCHS, FORK = 40, 12
FALL = {
    "baseline": 0.15,
    "data_and_perturbation": 0.3,
    "perturbation": 0.34,
    "large_loss_removal": 0.01,
    "attack_strength": 0.03,
}


def curve(arm: str, seed: int) -> list[Epoch]:
    """A run that learns, then overfits by ``FALL`` after the first learning-rate drop; identical before the fork."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, len(arm)])
    epochs = []
    for number in range(EPOCHS):
        noise = 0.02 * (shared.normal(size=3) if number < FORK else own.normal(size=3))
        fall = FALL.get(arm, 0.1) * min(max(number - FORK, 0) / 15, 1.0)
        learned = 0.9 * (1 - np.exp(-(number + 1) / 3))
        epochs.append(
            epoch(
                number,
                lr=0.1 * 0.1 ** ((number >= 20) + (number >= 30)),
                train_robust_acc=float(min(0.7 * learned + 0.01 * max(number - FORK, 0) + noise[0], 1.0)),
                val_robust_acc=float(learned - fall + noise[1]),
                test_robust_acc=float(learned - fall + noise[2]),
                test_acc=float(0.97 - fall / 3),
                small_loss_share=float(0.3 + 0.4 * learned + fall / 3 + noise[0]),
            )
        )
    return epochs


def make_run(folder: Path, arms: list[ArmConfig] = SUITE.arms, seeds: int = 3) -> Path:
    runs = {}
    for arm in arms:
        runs[arm.name] = []
        for seed in range(seeds):
            epochs = curve(arm.name, seed)
            place = folder / "runs" / arm.name / f"seed{seed}"
            place.mkdir(parents=True)
            (place / "metrics.jsonl").write_text(written(epochs), encoding="utf-8")
            runs[arm.name].append(run(seed, **vars(summarise_run(epochs)), seconds=12.0, gflop=3.0))
    made = arms_of(runs, arms)
    results = Results(
        version=VERSION,
        suite="factors",
        question=SUITE.question,
        data="digits_noisy",
        wall_seconds=93.1,
        fork_epoch=FORK,
        epochs_trained=456,
        epochs_without_sharing=600,
        arms=made,
        comparisons=compare_arms(made),
        small_loss=SmallLossConfig(),
        rules=SUITE.rules,
        literature=SUITE.literature,
        environment=Environment(torch="2.10", device="cpu", threads=1),
        finding=write_finding("digits_noisy", made, SUITE.rules),
    )
    records.write(folder / "results.json", results)
    return folder
