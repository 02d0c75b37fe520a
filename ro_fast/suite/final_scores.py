"""Final scores of a finished run: its best and last state under a strong attack, and the memory its training takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from ro_fast.attacks.cascade import cascade, standard_attacks
from ro_fast.config import FinalConfig, TrainConfig
from ro_fast.data import ImageData
from ro_fast.environment import choose_device
from ro_fast.findings.outcomes import Attacked, FinalScores
from ro_fast.storage import records
from ro_fast.suite.step_memory import step_memory_mb
from ro_fast.training.trainer import Run, prepared


def write_final_scores(config: TrainConfig, data: ImageData, how: FinalConfig) -> None:
    """Writes a finished run's ``scores.json``, unless it exists and was made in the same way: see :func:`final_scores`."""
    path = Path(config.out) / "scores.json"
    done = read_final_scores(path)
    if done is not None and done.settings == how:
        return
    device = choose_device(config.device)
    run, _ = prepared(config, data, device)
    found = {}
    for state in ("best", "last"):
        run.restore_from(run.folder / f"{state}.pt")
        found[state] = final_scores(run, run.judged, how)
    run.epoch = config.trainer.epochs - 1  # the method is active, as in most of the run
    records.write(path, FinalScores(how, found["best"], found["last"], step_memory_mb(run)))


def read_final_scores(path: Path) -> FinalScores | None:
    """The contents of a run's ``scores.json``; None if there is none."""
    return records.read(FinalScores, path, "move it away and run the same command again") if path.exists() else None


def final_scores(run: Run, model: nn.Module, how: FinalConfig) -> Attacked:
    """Test accuracies of one state of a run, as fractions.

    Under PGD, a sample counts if it is correct at every iterate of PGD with the training attack's radius; under the cascade, if
    also correct at every iterate of APGD-CE, APGD-T and, in L∞, Square. Noise is a function of sample and seed, the same for all
    states and arms.
    """
    attack = dataclasses.replace(run.eval_attack, steps=how.steps, generator=None)
    options = {"steps": how.apgd_steps, "targets": how.targets, "queries": how.queries, "seed": run.config.seed}
    attacks = {"pgd": attack, **standard_attacks(attack.ball()[1], attack.norm, **options)}
    x, t = run.data.x_test, run.config.trainer
    stages = cascade(
        model, lambda index: run.inputs(x[index]), run.data.y_test, attacks, batch_size=t.eval_batch_size, seed=run.config.seed
    )
    share = {stage.name: float(stage.robust.double().mean()) for stage in stages}
    return Attacked(share["natural"], share["pgd"], share[stages[-1].name])
