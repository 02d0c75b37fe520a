"""Training without attack: the natural teacher, and what adversarial training is compared with."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.step import Step


def no_attack(step: Step) -> Tensor:
    """The natural inputs [N, ...] themselves."""
    return step.x


def natural(step: Step) -> Tensor:
    """``mean_n CE(f(x_n), y_n)``. There is no attack: training metrics, including "robust" ones, are for natural inputs."""
    return step.loss(step.x_adv, logits=step.decide(trains=True).logits)
