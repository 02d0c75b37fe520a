"""A finished suite's folder: what its results.json holds, and the curves of each arm and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ro_fast.config import RankingConfig, RulesConfig, SmallLossConfig
from ro_fast.data.naming import short_name
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.findings.claims import Claim
from ro_fast.findings.harms import Harm
from ro_fast.findings.outcomes import Arm, Outcome, summarise_run
from ro_fast.findings.ranking import Ranked
from ro_fast.findings.verdict import Difference, Finding
from ro_fast.storage.checkpoint import Flat
from ro_fast.storage.epochs import FILE, read_epochs
from ro_fast.storage.records import parse, verified

RESULTS = "results.json"
VERSION = 2  # of results.json: 2 measures gaps from means over three epochs
COLUMNS = ("epoch", "lr", "train_robust_acc", "test_robust_acc", "small_loss_share", "feature_gap", "feature_gap_natural")

Curves = dict[str, dict[str, NDArray[np.float64]]]  # arm → "epoch" [E], the other COLUMNS [seeds, E]; NaN means not measured


@dataclass(frozen=True)
class PartOfArm:
    """The role of an arm in one question."""

    name: str
    role: str
    factor: str | None = None
    control: str | None = None
    x: float | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    x_label: str | None = None
    figures: list[str] = field(default_factory=list)
    rules: RulesConfig | None = None
    ranking: list[Ranked] | None = None
    ranking_rules: RankingConfig | None = None
    harms: list[Harm] | None = None
    claims: list[Claim] = field(default_factory=list)
    literature: list[str] = field(default_factory=list)
    finding: Finding | None = None


@dataclass(frozen=True, kw_only=True)
class Part(Answer):
    """One question of several."""

    suite: str
    question: str
    fork_epoch: int
    arms: list[PartOfArm]


@dataclass(frozen=True, kw_only=True)
class Results(Answer):
    """The contents of results.json: for a suite of one question its answer, for several each answer and the overall one."""

    version: int
    suite: str
    question: str
    data: str
    wall_seconds: float
    fork_epoch: int
    epochs_trained: int
    epochs_without_sharing: int
    small_loss: SmallLossConfig | None = None
    config: Flat = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    arms: list[Arm]
    comparisons: list[Difference] = field(default_factory=list)
    environment: Environment = field(default_factory=Environment)
    parts: list[Part] | None = None
    finding: Finding

    @property
    def named(self) -> str:
        """The data, as a reader knows them."""
        path = self.config.get("data.path")
        return short_name(self.data, str(path) if path else None)


@dataclass(frozen=True, kw_only=True)
class Question(Answer):
    """One question with its own arms in their roles; a suite of one question has this one only."""

    suite: str
    question: str
    fork_epoch: int
    arms: list[Arm]
    all_arms: list[Arm]  # of the whole suite
    prefix: str  # of its figures' names


def questions(results: Results) -> list[Question]:
    """The questions of a suite."""
    if results.parts is None:
        return [_question(results, results, results.arms, "")]
    by_name = {arm.name: arm for arm in results.arms}
    return [
        _question(part, results, [replace(by_name[own.name], **vars(own)) for own in part.arms], f"{part.suite}-")
        for part in results.parts
    ]


def _question(one: Part | Results, results: Results, arms: list[Arm], prefix: str) -> Question:
    answer = {field.name: getattr(one, field.name) for field in fields(Answer)}
    return Question(
        **answer,
        suite=one.suite,
        question=one.question,
        fork_epoch=one.fork_epoch,
        arms=arms,
        all_arms=results.arms,
        prefix=prefix,
    )


def read_results(run_dir: Path) -> Results:
    """results.json of a suite's folder.

    Raises:
        InputError: if it is missing, of another version, or a field is missing or of another type.
    """
    path = run_dir / RESULTS
    if not path.is_file():
        raise InputError(f"{run_dir} holds no {RESULTS}: give the output folder of a finished ro-fast ablate")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not complete JSON ({error}): run the suite again, it resumes") from error
    version = content.get("version", 1) if isinstance(content, dict) else VERSION
    if version != VERSION:
        raise InputError(
            f"{path} has version {version} but {VERSION} is needed, because gaps are now measured differently: run the same "
            "ro-fast ablate again, which keeps finished training"
        )
    try:
        results = parse(Results, verified(content))
    except ValueError as error:
        raise InputError(f"{path} is not a suite's {RESULTS} ({error}): run the suite again, it resumes") from error
    if not results.arms:
        raise InputError(f"{path} lists no arm: run the suite again")
    return results


def read_curves(run_dir: Path, results: Results) -> Curves:
    """Every arm's curves, cut to the epochs common to all of its seeds.

    Raises:
        InputError: if a run's metrics are missing, damaged, or not those that the results were made from.
    """
    curves: Curves = {}
    for arm in results.arms:
        runs = [_columns(run_dir / "runs" / arm.name / f"seed{seed.seed}" / FILE, seed) for seed in arm.seeds]
        epochs = min(len(run["epoch"]) for run in runs)
        columns = {name: np.array([run[name][:epochs] for run in runs]) for name in COLUMNS}
        curves[arm.name] = {**columns, "epoch": columns["epoch"][0]}
    return curves


def _columns(file: Path, seed: Outcome) -> Mapping[str, list[float]]:
    epochs = read_epochs(file)
    found = summarise_run(epochs)
    # Every line has a digest; only a whole line that is missing, the last one above all, shows nowhere but here.
    compared = ("best_robust_acc", "last_robust_acc", "last_natural_acc")
    if any(abs(getattr(found, name) - getattr(seed, name)) > 1e-9 for name in compared):
        raise InputError(f"{file} holds other epochs than {RESULTS} was made from: run the same command again")
    return {name: [np.nan if (value := getattr(e, name)) is None else float(value) for e in epochs] for name in COLUMNS}
