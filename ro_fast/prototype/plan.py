"""The size of a prototype: the subset that lets enough seeds fit into the budget, at speeds measured beforehand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ro_fast.config import ArmConfig
from ro_fast.errors import InputError
from ro_fast.prototype.speed import Speed

SEEDS = 3  # target number; with fewer, intervals say little
SLACK = 1.2  # parallel runs slow each other down
PER_CLASS = 8  # minimum number of images per class
_UNITS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Sizes:
    """Images that are available, or that a prototype uses."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Plan:
    """One prototype: its images, its length, and the time one seed takes."""

    sizes: Sizes
    available: Sizes
    epochs: int
    seed_seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether all available images are used."""
        return self.sizes == self.available

    @property
    def parts(self) -> tuple[int, ...]:
        """Smaller sets that show the value of images: a quarter and a half."""
        return self.sizes.train // 4, self.sizes.train // 2


def seconds_of(budget: str) -> float:
    """Converts a duration in words to seconds.

    Raises:
        InputError: on anything other than hours, minutes and seconds.

    >>> seconds_of("10min"), seconds_of("1h30min"), seconds_of("90s")
    (600.0, 5400.0, 90.0)
    """
    found = re.fullmatch(r"(?:([\d.]+)h)? ?(?:([\d.]+)min)? ?(?:([\d.]+)s)?", budget.strip())
    try:
        parts = [float(part or 0) for part in found.groups()] if found else []
    except ValueError:
        parts = []
    seconds = sum(part * unit for part, unit in zip(reversed(parts), _UNITS.values(), strict=False))
    if not seconds > 0:
        raise InputError(f"budget={budget} is not a duration; write 90s, 10min or 1h30min")
    return seconds


def sizes_for(train: int, available: Sizes) -> Sizes:
    """Validation and test images for a number of training images: a fifth, and as many but at least 300, if available."""
    if train >= available.train:
        return available
    return Sizes(train, min(available.val, max(train // 5, 1)), min(available.test, max(train, 300)))


def sizes_to_try(available: int, classes: int) -> list[int]:
    """Training subsets from all images down to a few per class, each a twentieth smaller than the one before.

    >>> sizes_to_try(100, 10)[:3], sizes_to_try(100, 10)[-1]
    ([100, 95, 90], 80)
    """
    sizes, least = [available], min(PER_CLASS * classes, available)
    while sizes[-1] > least:
        sizes.append(max(least, min(int(0.95 * sizes[-1]), sizes[-1] - 1)))
    return sizes


def largest_that_fits(plans: Sequence[Plan], seconds: float) -> Plan | None:
    """The largest candidate of which three seeds fit into the given seconds; else two, else one; else None.

    A smaller subset need not be faster, since it is trained for more epochs.
    """
    for seeds in range(SEEDS, 0, -1):
        for plan in sorted(plans, key=lambda plan: -plan.sizes.train):
            if seeds * plan.seed_seconds <= seconds:
                return plan
    return None


def seed_seconds(sizes: Sizes, epochs: int, arms: Sequence[ArmConfig], fork: float, steps: int, speed: Speed) -> float:
    """Seconds that one seed of all arms takes with ``speed.jobs`` runs in parallel."""
    judged = (sizes.val + sizes.test) * speed.judge
    plain = 3 / (2 * steps + 3)  # work of a step without attack relative to one with an attack
    work = fork * (sizes.train * speed.train + judged)  # the prefix of the arms that share it
    for arm in arms:
        train = arm.set.get("data.train_size", sizes.train)
        own = 1 - fork if _shares_prefix(arm) else 1.0
        work += own * (train * speed.train * (plain if arm.name == "natural" else 1) + judged)
    return SLACK * epochs * work / speed.jobs


def _shares_prefix(arm: ArmConfig) -> bool:
    return arm.fork is None and not any(key.startswith("data.") for key in arm.set)


def epochs_for(train: int, epochs: int, min_steps: int, batch_size: int) -> int:
    """Epochs of a run: as configured, or more if a small set would give fewer than ``min_steps`` gradient steps.

    >>> epochs_for(1000, 24, 200, 64), epochs_for(100, 24, 200, 64)
    (24, 100)
    """
    return max(epochs, math.ceil(min_steps / math.ceil(train / batch_size)))
