"""Learnt smoothing: two teachers' outputs replace part of the label (Chen et al. 2021, ICLR)."""

from __future__ import annotations

from torch import Tensor

from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy


def distillation(step: Step, natural_share: float = 0.1, robust_share: float = 0.6, temperature: float = 2.0) -> Tensor:
    """``(1 − a − b)·ℓ(x', y) + a·KD(f(x'), f_nat(x')) + b·KD(f(x'), f_rob(x'))``.

    ``KD(z, t) = T²·CE(softmax(t/T), softmax(z/T))``. The teachers have the student's architecture and are trained on the same
    data with the same seed: one on natural images alone, of which the last state is used; one by plain adversarial training with
    the same objective, of which the best state on validation is used. Their training counts as work of this method: see
    :mod:`ro_fast.training.teachers`. Defaults as released with Chen et al.,
    "Robust overfitting may be mitigated by properly learned smoothening".
    """
    logits = step.decide(trains=True).logits
    loss = (1 - natural_share - robust_share) * step.loss(step.x_adv, logits=logits)
    for teacher, share in (("natural", natural_share), ("robust", robust_share)):
        soft = (step.asked(teacher, step.x_adv).to(logits.dtype) / temperature).softmax(1)
        loss = loss + share * temperature**2 * weighted_cross_entropy(logits / temperature, soft)
    return loss
