"""The interface of a method: what it does to a batch's inputs, the attack on them, and the loss of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ro_fast.methods.step import Step


def plain_attack(step: Step) -> Tensor:
    """The run's attack on the batch, against its targets: adversarial inputs [N, ...]."""
    return step.attacked(step.x, step.target)


def unchanged(step: Step) -> None:
    """Leaves the batch as it is."""


@dataclass(frozen=True)
class Method:
    """A training step in three parts, called in this order by the trainer.

    Args:
        loss: the loss of the step, a scalar: a function of the step, then the method's own options by name.
        attack: creates the adversarial batch ``step.x_adv`` [N, ...].
        change_inputs: changes ``step.x`` and, if images are mixed, ``step.target`` before the attack.
    """

    loss: Callable[..., Tensor]
    attack: Callable[[Step], Tensor] = plain_attack
    change_inputs: Callable[[Step], None] = unchanged

    def __call__(self, step: Step, **options: object) -> Tensor:
        """All three parts: the loss of a step that so far has only its batch."""
        self.change_inputs(step)
        step.x_adv = self.attack(step)
        return self.loss(step, **options)
