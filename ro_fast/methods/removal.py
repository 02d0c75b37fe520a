"""Leaving samples out by their adversarial loss: the factor ablation's removal of natural data, and its control."""

from __future__ import annotations

from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.methods.step import Decision, Step
from ro_fast.ops import weighted_cross_entropy

_REDUCTIONS = {"all": "mean", "kept": "weighted_mean"}


def data_and_perturbation(step: Step, denominator: str = "all") -> Tensor:
    """Leaves out small-loss samples together with their perturbations (arXiv 2310.00607, factor ablation).

    ``Σ_n [ℓ_n not small]·CE_n / denominator``: "all" divides by N, as published; "kept" by the samples kept.
    """
    decision = step.decide(trains=True)
    return _kept(step, decision, ~decision.small, denominator)


def large_loss_removal(step: Step, denominator: str = "all") -> Tensor:
    """Leaves out the others, the large-loss samples: the control of ``data_and_perturbation``."""
    decision = step.decide(trains=True)
    return _kept(step, decision, decision.small, denominator)


def _kept(step: Step, decision: Decision, keep: Tensor, denominator: str) -> Tensor:
    if denominator not in _REDUCTIONS:
        raise InputError(f"method.denominator '{denominator}' is unknown; there are: {', '.join(_REDUCTIONS)}")
    weight = keep.to(decision.loss.dtype)
    return weighted_cross_entropy(decision.logits, step.y, weight, reduction=_REDUCTIONS[denominator])
