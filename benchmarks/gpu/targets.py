"""The targets on an H100: a must and a goal for each measure, and the group of measurements that writes its row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One measure; "default" means what a user gets without naming an engine."""

    group: str
    what: str
    must: float | None
    goal: float | None
    lower: bool = False  # whether less is better

    def met(self, measured: float) -> bool | None:
        """Whether the must is reached; None if there is none."""
        if self.must is None:
            return None
        return measured <= self.must if self.lower else measured >= self.must


# By id, with the case after the slash if an id has several.
TARGETS = {
    "G1": Target("attacks", "PGD-10, batch 128, default, over Rice et al.'s in TF32: times as fast", 7, 11),
    "G2": Target("attacks", "the same over torchattacks' in bf16 and channels_last", 4.5, 6.5),
    "G3/128": Target("attacks", "the same over torch.compile's code, all steps in one CUDA graph", 1.0, 1.4),
    "G3/512": Target("attacks", "the same at batch 512", 1.0, 1.25),
    "G4": Target("training", "PGD-10 training of PreActResNet-18, seconds per epoch of 50 000 images", 8.5, 5, lower=True),
    "G5": Target("operators", "an operator's bytes per second as a share of a copy's", 0.85, 0.93),
    "G5/class_moments": Target("operators", "class_moments' bytes per second as a share of a copy's", 0.6, 0.85),
    "G5/loss": Target("operators", "a loss over the faster of Inductor's and torch's: times as fast", 1.1, 1.1),
    "G6/launches": Target("operators", "kernels that one attack step launches outside the model", 3, 1, lower=True),
    "G6/waits": Target("training", "waits for the device in an epoch of training", 5, 1, lower=True),
    "G7": Target("suites", "wall time of a suite of three seeds over the sum of its own single runs", 0.6, 0.25, lower=True),
    "G8/active": Target("evaluation", "PGD-20 on surviving samples over our own full run: times as fast", 1.6, 1.9),
    "G8/apgd": Target("evaluation", "APGD-CE over torchattacks': times as fast", 2, 3),
    "G8/cascade": Target("evaluation", "a cascade of APGD-CE, APGD-T and Square over torchattacks': times as fast", 1.2, 1.6),
    "G9/attack": Target("attacks", "peak of reserved memory, default over torchattacks', both in bf16", 0.5, 0.25, lower=True),
    "G9/training": Target("training", "the same of a training step, default over Rice et al.'s", 0.6, 0.4, lower=True),
    "G10": Target("suites", "seconds of `ro-fast ablate`, its start included", 30, 10, lower=True),
    "G11/each": Target("drop_in", "default over eager, the slowest of the models of torchvision and timm", 0.98, None),
    "G11/mean": Target("drop_in", "default over eager, geometric mean over these models", None, 1.2),
    "G12/pgd_step": Target("operators", "microseconds of the host for a call of pgd_step", 12, 6, lower=True),
    "G12/loss": Target("operators", "microseconds of the host for a weighted cross-entropy and its gradient", 20, 10, lower=True),
    "S1": Target("training", "training steps of three arms that part half-way over the published scripts'", 8, 15),
}
