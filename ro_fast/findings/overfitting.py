"""Does training overfit robustly? The single rule behind every verdict, claim, page and last line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ro_fast.findings.outcomes import Arm
from ro_fast.findings.simultaneous import Comparison, simultaneous

BASELINE = "baseline"
OVERFITS, IN_LOSS, NONE, UNSETTLED, RISING, ONE_SEED = (
    "overfits", "overfits in loss", "no overfitting", "not settled", "still rising", "one seed",
)  # fmt: skip
LEAST_LOSS = 0.05  # least rise of robust test loss, in nats, for loss alone to count as overfitting


@dataclass(frozen=True)
class Overfitting:
    """The result of the baseline's runs as one of the codes above, with the numbers behind it.

    * "one seed": there is no interval to judge by.
    * "still rising": in more than half of the runs the best epoch lies in the last tenth; what comes later is unknown.
    * "overfits": mean robust test accuracy falls by ``min_gap`` or more after its best epoch, and the fall is significant.
    * "overfits in loss": not so, but robust test loss rises after its best epoch, significantly and by 0.05 nats or more.
    * "no overfitting": the whole interval of the fall lies below ``min_gap``.
    * "not settled": anything else.
    """

    code: str
    gap: Comparison  # fall of robust test accuracy from the best epoch to the last five, a fraction
    loss: Comparison | None  # rise of robust test loss, in nats; None if it was not measured
    seeds: int
    rising: int  # runs whose best epoch lies in the last tenth

    @property
    def overfits(self) -> bool | None:
        """Whether accuracy overfits; None if that is unknown."""
        return {OVERFITS: True, NONE: False}.get(self.code)


def overfitting(arms: Sequence[Arm], min_gap: float, level: float = 0.95) -> Overfitting | None:
    """Judges a suite's baseline; None if it did not run.

    The variance of a gap between seeds is estimated from the other arms too (:mod:`ro_fast.findings.simultaneous`).

    Args:
        arms: those of a suite.
        min_gap: the fall that counts, a fraction.
        level: of the intervals.
    """
    baseline = next((arm for arm in arms if arm.name == BASELINE), None)
    if baseline is None:
        return None
    seeds = baseline.seeds
    gap = of_baseline(arms, "ro_gap", level)
    loss = of_baseline(arms, "ro_loss_gap", level) if all(seed.ro_loss_gap is not None for seed in seeds) else None
    rising = sum(seed.still_rising for seed in seeds)
    if gap.ci95 is None:
        code = ONE_SEED
    elif 2 * rising > len(seeds):
        code = RISING
    elif gap.difference >= min_gap and gap.ci95[0] > 0:
        code = OVERFITS
    elif loss is not None and loss.ci95 is not None and loss.ci95[0] > 0 and loss.difference >= LEAST_LOSS:
        code = IN_LOSS
    else:
        code = NONE if gap.ci95[1] < min_gap else UNSETTLED
    return Overfitting(code, gap, loss, len(seeds), rising)


def of_baseline(arms: Sequence[Arm], metric: str, level: float = 0.95) -> Comparison:
    """A metric of the baseline with an interval whose variance borrows from all arms."""
    own: list[float] = []
    others: list[list[float]] = []
    for arm in arms:
        values = [value for seed in arm.seeds if (value := seed.metric(metric)) is not None]
        if arm.name == BASELINE:
            own = values
        elif values:
            others.append(values)
    return simultaneous({BASELINE: own}, others, level)[BASELINE]
