"""Harder images instead of easy ones: AugMix repeated on small-loss samples (arXiv 2310.00607: ROFG_DA, data augmentation)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.data.augmix import augmix
from ro_fast.methods.step import Step


def augmentation(
    step: Step, direction: str = "below", share: float = 0.5, rounds: int = 2, severity: int = 3, width: int = 3, depth: int = 0
) -> Tensor:
    """``mean_n ℓ(x'_n)``, where small-loss samples are mixed by AugMix and attacked again, as long as they stay small-loss.

    A round mixes the samples whose loss is still small, each from its own natural image; the rounds end when the fraction of
    small-loss samples in the batch is below (or above) ``share``. The paper leaves open which of the two it means.

    Args:
        direction, share: when to stop: "below" or "above" this fraction of the batch.
        rounds: upper limit on the number of rounds.
        severity, width, depth: of AugMix: strength 1 to 10, chains, operations per chain (0: 1 to 3 at random).
    """
    small = step.decide(trains=False).small
    x, x_adv = step.x.clone(), step.x_adv.clone()
    for _ in range(rounds):
        index = small.nonzero().squeeze(1)
        easy = len(index) / len(small)
        if len(index) == 0 or (easy < share if direction == "below" else easy > share):
            break
        x[index] = augmix(step.x[index], step.generator, severity=severity, width=width, depth=depth)
        x_adv[index] = step.attacked(x[index], step.target[index])
        small = small & step.is_small(x_adv)
    return step.loss(x_adv, x=x)
