"""The result of a prototype: the risk with its evidence, and what to do in which order; codes and numbers, no wording.

The rules are ``rules`` of configs/prototype.yaml, fixed before the runs that they judge:

* **high**: the baseline overfits, as :mod:`ro_fast.findings.overfitting` says;
* **low**: it finds no overfitting, the detector raised no alarm, and the check found no serious label errors;
* **medium**: anything else, including a single seed, which has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ro_fast.config import DecisionConfig
from ro_fast.data.check_file import Observation
from ro_fast.findings.fall import Fall
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import BASELINE, NONE, OVERFITS, Overfitting
from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HELPS, MITIGATION, OPEN, ORDER, Ranked
from ro_fast.findings.simultaneous import Comparison, simultaneous
from ro_fast.findings.statistics import Estimate
from ro_fast.overfitting.detector import MIN_VALUES, watch
from ro_fast.storage.epochs import Epoch

NATURAL, EXCLUDE = "natural", "exclude"
EARLY, MORE, REPAIR = "early_stopping", "more_data", "repair"
EXTRAPOLATED = "extrapolated"  # the verdict on MORE, which no run has tried


@dataclass(frozen=True)
class Alarms:
    """The detector's result on the baseline's runs."""

    seeds: int
    alarm_epochs: list[int | None]  # None if it raised none


@dataclass(frozen=True)
class Concern:
    """A finding of the check, in brief."""

    kind: str
    severity: str
    count: int
    share: float

    @classmethod
    def of(cls, finding: Observation) -> Concern:
        """The brief form."""
        return cls(finding.kind, finding.severity, finding.count, finding.share)


@dataclass(frozen=True)
class Risk:
    """The risk of robust overfitting and its evidence."""

    level: str  # "high", "medium" or "low"
    code: str  # of the baseline's verdict
    gap: Estimate
    alarms: Alarms | None  # None if the runs are too short
    label_errors: Concern | None  # if they are serious
    fall: Fall | None = None  # the probability of a fall that matters; None with a single seed


@dataclass(frozen=True)
class Action:
    """Something to do: a repair of the data, or a measure with its expected gain."""

    action: str  # a mitigation's name, or one of EARLY, MORE and REPAIR
    verdict: str  # one of ranking's, or EXTRAPOLATED
    factor: str | None = None
    gain: Comparison | None = None
    beyond: Comparison | None = None  # its gain over keeping the best epoch of plain adversarial training
    natural: Comparison | None = None
    work: float | None = None  # as a multiple of plain adversarial training
    score: float = 0.0  # lower bound of the gain over the work
    finding: Concern | None = None  # what a repair addresses
    tied: bool = False  # its gain can't be told apart from that of the first mitigation
    labels: int = 0  # that people have to look at or to buy


@dataclass(frozen=True)
class Lead:
    """How much more the first of the measured actions that help gains than the second."""

    first: str
    second: str
    difference: Comparison


@dataclass(frozen=True)
class Worth:
    """The result of a training run at its end."""

    natural: Estimate
    robust: Estimate
    fall: Estimate  # of robust accuracy, from its own best epoch to its end
    work: float


@dataclass(frozen=True)
class Size:
    """Robust accuracy at a number of training images."""

    size: int
    mean: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class LearningCurve:
    """Robust accuracy by training images, and the gain expected from twice as many: ro_fast/prototype/learning_curve.py."""

    points: list[Size]
    doubled: Size
    gain: Comparison


def alarms(runs: Sequence[Sequence[Epoch]]) -> Alarms | None:
    """The detector's result on the baseline's runs; None if they are too short."""
    if any(len(run) < MIN_VALUES for run in runs):
        return None
    verdicts = [
        watch(
            [epoch.test_robust_acc for epoch in run],
            test_robust_loss=[epoch.test_robust_loss for epoch in run],
            train_robust_acc=[epoch.train_robust_acc for epoch in run],
        )
        for run in runs
    ]
    return Alarms(len(verdicts), [verdict.alarm_epoch for verdict in verdicts])


def assess_risk(found: Overfitting, rung: Alarms | None, findings: Sequence[Observation], fall: Fall | None = None) -> Risk:
    """The risk of robust overfitting and its evidence.

    Args:
        found: the finding of the baseline's runs.
        rung: the result of :func:`alarms`.
        findings: those of the check.
        fall: the result of :func:`ro_fast.findings.fall.probability_of_fall`.
    """
    labels = next((f for f in findings if f.kind == "label_error" and f.severity == "serious"), None)
    rang = rung is not None and any(epoch is not None for epoch in rung.alarm_epochs)
    level = "high" if found.code == OVERFITS else "low" if found.code == NONE and not rang and labels is None else "medium"
    gap = Estimate(found.gap.difference, found.gap.ci95)
    return Risk(level, found.code, gap, rung, None if labels is None else Concern.of(labels), fall)


def early_stopping(baseline: Arm, gap: Comparison, max_natural_loss: float) -> Action:
    """Keeping the epoch best on validation instead of the last one: its gain is the gap itself, and it costs nothing.

    Like a mitigation, it helps only if mean natural accuracy is lower by at most ``max_natural_loss``.
    """
    changes = [s.best_natural_acc - s.last_natural_acc for s in baseline.seeds if s.best_natural_acc is not None]
    natural = simultaneous({EARLY: changes})[EARLY] if len(changes) == len(baseline.seeds) else None
    action = replace(_judged(EARLY, gap, work=1.0, least=0.0), natural=natural)
    loses = natural is not None and natural.difference < -max_natural_loss
    return replace(action, verdict=COSTS_NATURAL) if loses and action.verdict == HELPS else action


def order_actions(
    ranking: Sequence[Ranked],
    early: Action,
    findings: Sequence[Observation],
    curve: LearningCurve | None,
    rules: DecisionConfig,
) -> list[Action]:
    """What to do, most important first.

    First come problems that invalidate every number: serious findings of the check, except suspect labels, whose removal is tried
    as a mitigation. Then what helps: mitigations as judged and ordered by ``ranking`` and, placed among them by the lower bound
    of the gain over the work, :func:`early_stopping`. Then twice the images, if their extrapolated gain matters; then what is
    undecided, and what harms.
    """
    repairs = [
        Action(REPAIR, FIRST, finding=Concern.of(finding))
        for finding in findings
        if finding.severity == "serious" and finding.kind != "label_error"
    ]
    measured = [_mitigation(entry) for entry in ranking]
    others = [early]
    if curve is not None:
        more = _judged(MORE, curve.gain, work=2.0, least=rules.min_gain)
        others.append(replace(more, verdict=EXTRAPOLATED) if more.verdict == HELPS else more)
    for other in others:
        measured.insert(next((i for i, action in enumerate(measured) if _goes_before(other, action)), len(measured)), other)
    actions = repairs + measured
    if actions and actions[0].verdict == HELPS:
        actions[0] = replace(actions[0], verdict=FIRST)
    return actions


_ORDER = (HELPS, EXTRAPOLATED, *ORDER[1:])


def _goes_before(a: Action, b: Action) -> bool:
    """By verdict; within each, the most certain gain for the least work first."""
    return (_ORDER.index(a.verdict), -a.score) < (_ORDER.index(b.verdict), -b.score)


def beyond_best(arms: Sequence[Arm]) -> dict[str, Comparison]:
    """mitigation -> its robust accuracy at the end minus that of plain adversarial training at its best epoch on validation,
    paired by seed: what it brings to someone who keeps the best epoch anyway.
    """
    best = {seed.seed: seed.best_robust_acc for arm in arms if arm.name == BASELINE for seed in arm.seeds}
    ends = {arm.name: {seed.seed: seed.last_robust_acc for seed in arm.seeds} for arm in arms if arm.role == MITIGATION}
    return simultaneous({name: _paired(own, best) for name, own in ends.items()})


def lead(arms: Sequence[Arm], actions: Sequence[Action]) -> Lead | None:
    """The difference between the gains of the first two actions that were tried and help, paired by seed; None if there is one.

    Its interval holds for the first against all others that help at once.
    """
    ends = {arm.name: {seed.seed: seed.last_robust_acc for seed in arm.seeds} for arm in arms}
    ends[EARLY] = {seed.seed: seed.best_robust_acc for arm in arms if arm.name == BASELINE for seed in arm.seeds}
    helping = [action.action for action in actions if action.verdict in (FIRST, HELPS) and action.action in ends]
    if len(helping) < 2:
        return None
    first, *others = helping
    found = simultaneous({name: _paired(ends[first], ends[name]) for name in others})
    return Lead(first, others[0], found[others[0]])


def _paired(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """Differences of the seeds that both have."""
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def worth(arms: Sequence[Arm], best: str | None) -> dict[str, Worth]:
    """Natural and robust accuracy of training without attack, of plain adversarial training, and with the best mitigation."""
    by_name = {arm.name: arm for arm in arms}
    plain = _work(by_name[BASELINE])
    return {
        name: Worth(
            by_name[name].last_natural_acc, by_name[name].last_robust_acc, by_name[name].ro_gap, _work(by_name[name]) / plain
        )
        for name in (NATURAL, BASELINE, best)
        if name is not None and name in by_name
    }


def _work(arm: Arm) -> float:
    return sum(seed.gflop or 0.0 for seed in arm.seeds)


def _mitigation(entry: Ranked) -> Action:
    return Action(
        entry.name,
        HELPS if entry.verdict == FIRST else entry.verdict,
        factor=entry.factor,
        gain=entry.gain,
        natural=entry.natural,
        work=entry.cost["gflop"].mean,
        score=entry.score or 0.0,
        tied=entry.tied,
    )


def _judged(action: str, gain: Comparison, work: float, least: float) -> Action:
    helps = gain.ci95 is not None and gain.ci95[0] > 0 and gain.difference >= least
    score = gain.ci95[0] / work if gain.ci95 else 0.0
    return Action(action, HELPS if helps else OPEN, gain=gain, work=work, score=score)
