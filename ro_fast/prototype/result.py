"""prototype.json: the findings of a prototype, in codes and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ro_fast.config import DecisionConfig
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.findings.decision import Action, Concern, Lead, LearningCurve, Risk, Worth
from ro_fast.prototype.costs import Costs
from ro_fast.prototype.enough import Enough
from ro_fast.storage.records import read

RESULT = "prototype.json"
VERSION = 4  # of prototype.json: 4 has gains beyond the best epoch


@dataclass(frozen=True)
class Ran:
    """What was trained, and how long it took."""

    train: int  # images
    available: int  # available training images
    test: int
    validation: int
    checked: int  # training and validation images that the check looked at
    classes: int
    epochs: int
    fork_epoch: int
    seeds: int
    arms: int
    model: str
    eps: float
    norm: str
    attack_steps: int
    budget: float  # seconds
    seconds: float
    epoch_seconds_of_all: float  # one epoch of plain adversarial training on all images


@dataclass(frozen=True)
class Prototype:
    """The contents of prototype.json."""

    version: int
    data: str
    path: str | None
    data_options: str  # as a command line takes the data
    language: str
    sentences: list[str]  # in that language: the risk, the finding, what to do first
    risk: Risk
    worth: dict[str, Worth]  # results of plain training, by arm
    actions: list[Action]  # most important first
    learning_curve: LearningCurve | None
    check: list[Concern]
    suspects: int  # images that data.exclude would leave out of training and validation
    plan: Ran
    rules: DecisionConfig
    max_natural_loss: float  # of a measure that counts as a help
    environment: Environment
    costs: Costs
    lead: Lead | None = None  # None if fewer than two of the actions tried help
    enough: Enough | None = None  # what would decide what is open


def read_prototype(out: Path) -> Prototype:
    """The result in a prototype's folder.

    Raises:
        InputError: if it is missing or incomplete.
    """
    remedy = "run the prototype again, it resumes"
    found = read(Prototype, out / RESULT, remedy)
    if found.version != VERSION:
        raise InputError(f"{out / RESULT} has version {found.version} but {VERSION} is needed: {remedy}")
    return found
