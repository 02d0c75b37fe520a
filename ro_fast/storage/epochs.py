"""``metrics.jsonl`` of a run: one line of numbers per epoch, written and read only here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.storage.records import as_json, parse, verified, with_digest

FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch's numbers; accuracies and shares are fractions, losses nats."""

    epoch: int
    lr: float
    train_loss: float
    train_robust_acc: float
    train_robust_loss: float
    small_loss_share: float
    gflop: float  # for training
    val_robust_acc: float
    val_robust_loss: float | None = None  # older runs lack it
    test_acc: float
    test_robust_acc: float
    test_robust_loss: float
    feature_gap: float | None = None  # this and the two below only if the epoch's features were measured
    feature_gap_natural: float | None = None
    features: dict[str, dict[str, dict[str, float | None]]] | None = None  # layer -> kind of image -> statistic
    train_seconds: float
    seconds: float  # including validation and test
    peak_mb: float  # 2²⁰ bytes
    world_size: int = 1  # processes that trained it together


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs in a file, in its order.

    Raises:
        InputError: if a file is missing or empty, or a line is not an epoch; gives its number and what is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing but needed for the curves: run the same command again")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error}): run the same command again") from error
    epochs = []
    for number, text in enumerate(lines, start=1):
        try:
            epochs.append(parse(Epoch, verified(json.loads(text))))
        except ValueError as error:
            raise InputError(f"{path} line {number} is not an epoch's metrics ({error}): run the same command again") from error
    if not epochs:
        raise InputError(f"{path} contains no epoch: run the same command again")
    return epochs


def written(epochs: Iterable[Epoch]) -> str:
    """The lines of epochs as stored in the file."""
    return "".join(json.dumps(with_digest(as_json(epoch))) + "\n" for epoch in epochs)
