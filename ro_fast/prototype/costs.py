"""What a full training run costs: hours here or on a stated GPU, money, and labels to look at or to buy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ro_fast.config import CostConfig
from ro_fast.errors import InputError
from ro_fast.findings.decision import MORE, Action

# Dense matrix products in bf16 (V100, T4: fp16) with sums in fp32, TFLOP/s, from NVIDIA's data sheets and white papers.
GPUS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "RTX 4090": 165, "RTX 3090": 71, "V100": 125, "T4": 65}
ATTAINED = 0.18  # of that, by a captured PGD-10 on PreActResNet-18 at batch 128: benchmarks/results/nvidia-h100
CURRENCIES = ("EUR", "USD", "JPY", "GBP", "CHF", "CNY", "KRW", "INR", "CAD", "AUD", "SGD", "SEK")


@dataclass(frozen=True)
class Costs:
    """Of one run of plain adversarial training on all images, as long as those of the prototype."""

    gflop: float
    here_hours: float  # in one process on this computer
    machine: str | None  # the one stated, "" if only its speed was
    there_hours: float | None
    per_hour: float | None
    per_label: float | None
    currency: str

    @property
    def hours(self) -> float:
        """On the machine stated, else here."""
        return self.here_hours if self.there_hours is None else self.there_hours

    def money(self, work: float, labels: int) -> float | None:
        """Of a run with ``work`` times the work and so many labels; None if a price that it needs was not given."""
        if (self.per_hour is None and work) or (self.per_label is None and labels):
            return None
        return work * self.hours * (self.per_hour or 0.0) + labels * (self.per_label or 0.0)


def check_costs(config: CostConfig) -> None:
    """Raises InputError on an unknown GPU or currency, or on two speeds at once."""
    if config.gpu is not None and config.gpu not in GPUS:
        raise InputError(f"cost.gpu={config.gpu} is unknown; known: {', '.join(GPUS)}; for others, give cost.hours_per_gflop")
    if config.gpu is not None and config.hours_per_gflop is not None:
        raise InputError("cost.gpu and cost.hours_per_gflop are both given; give only one of them")
    if config.currency not in CURRENCIES:
        raise InputError(f"cost.currency={config.currency} is unknown; known: {', '.join(CURRENCIES)}")


def costs(config: CostConfig, gflop: float, here_hours: float) -> Costs:
    """Of a run that takes ``gflop`` in all and ``here_hours`` on this computer.

    On a GPU of :data:`GPUS`, hours are ``gflop / (peak · ATTAINED)``: networks too small to fill it take longer.
    """
    there = None if config.hours_per_gflop is None else gflop * config.hours_per_gflop
    if config.gpu is not None:
        there = gflop / (1000 * GPUS[config.gpu] * ATTAINED * 3600)
    machine = None if there is None else config.gpu or ""
    return Costs(gflop, here_hours, machine, there, config.per_hour, config.per_label, config.currency)


def with_labels(action: Action, trained: int, available: int) -> Action:
    """An action with the labels that it needs from people: of images to look at, or to buy.

    Args:
        action: what is done.
        trained: images that the prototype trained on.
        available: the user's training images.
    """
    labels = max(0, 2 * trained - available) if action.action == MORE else 0
    return replace(action, labels=action.finding.count if action.finding is not None else labels)
