"""Go, no-go or undecided: a protocol's limits held against what an evaluation found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import Evaluated
from ro_fast.findings.statistics import Interval, mean_ci95
from ro_fast.protocol.protocol import Protocol, half_width, images_for

GO, NO_GO, UNDECIDED = "go", "no-go", "undecided"


@dataclass(frozen=True)
class Criterion:
    """One limit and what was measured: means over runs, as fractions."""

    name: str  # "robust", "natural", "worst_class"
    limit: float
    no_go: float
    acc: float
    ci95: Interval  # over training seeds, if there are several, and draws of test images
    code: str
    images_needed: int | None = None  # of the test images, for an interval that no longer holds the limit; None if decided
    label: str | None = None  # the worst class


@dataclass(frozen=True)
class Decision:
    """The contents of decision.json."""

    code: str
    protocol: Protocol
    criteria: list[Criterion]
    runs: int


def decide(protocol: Protocol, found: Evaluated) -> Decision:
    """Holds each limit against the mean over runs.

    A limit's interval combines seeds and images, ``half² = half_seeds² + half_images²``: Student's over runs, none for a single
    run, and the normal one of a fraction over images. A criterion is go if it lies above the limit, no-go if below, else
    undecided. The decision is no-go if any criterion is, go if all are and as many runs were evaluated as the protocol says.

    Raises:
        InputError: if the evaluation is not of the protocol's data.
    """
    if found.data != protocol.data:
        raise InputError(f"the protocol is for data '{protocol.data}', but the evaluation used '{found.data}'")
    models, limits = list(found.models.values()), protocol.limits
    robust = _criterion("robust", limits.robust, limits.no_go, [m.robust_acc for m in models], models[0].samples)
    criteria = [robust]
    if limits.natural is not None:
        natural = [m.natural.acc for m in models]
        criteria.append(_criterion("natural", limits.natural, limits.natural, natural, models[0].samples))
    if limits.worst_class is not None:
        by_label = {c.label: (c.name or str(c.label), c.samples) for c in models[0].by_class}
        accs = {label: [c.robust_acc for m in models for c in m.by_class if c.label == label] for label in by_label}
        worst = min(accs, key=lambda label: math.fsum(accs[label]))
        name, samples = by_label[worst]
        criteria.append(_criterion("worst_class", limits.worst_class, limits.worst_class, accs[worst], samples, name))
    codes = {criterion.code for criterion in criteria}
    code = NO_GO if NO_GO in codes else GO if codes == {GO} and len(models) >= protocol.seeds else UNDECIDED
    return Decision(code, protocol, criteria, len(models))


def _criterion(
    name: str, limit: float, no_go: float, accs: Sequence[float], images: int, label: str | None = None
) -> Criterion:
    over_seeds = mean_ci95(accs)
    # Where all or none are right, half an image keeps the interval from vanishing.
    clear = min(max(over_seeds.mean, 0.5 / images), 1 - 0.5 / images)
    seeds = 0.0 if over_seeds.ci95 is None else over_seeds.mean - over_seeds.ci95[0]
    half = math.hypot(seeds, half_width(images, clear))
    low, high = max(0.0, over_seeds.mean - half), min(1.0, over_seeds.mean + half)
    code = GO if low >= limit else NO_GO if high < no_go else UNDECIDED
    needed = None
    distance = max(over_seeds.mean - limit, no_go - over_seeds.mean)  # below 0 between the two, where no image settles it
    if code == UNDECIDED and distance > seeds:
        needed = images_for(math.sqrt(distance**2 - seeds**2), clear)
    return Criterion(name, limit, no_go, over_seeds.mean, (low, high), code, needed, label)
