"""Sample weights: by how far the attack has to go (GAIRAT), by the sample's margin (MAIL), or by the findings of a data check.

The loss is ``Σ_n w_n·ℓ_n / N`` with weights of mean 1 over the batch and no gradient through them.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ro_fast.methods.step import Step
from ro_fast.ops import weighted_cross_entropy


def counting_attack(step: Step) -> Tensor:
    """The plain attack, which counts in ``step.right`` how many of its iterates were still classified correctly."""
    right = torch.zeros(len(step.x), device=step.x.device)

    def counting(logits: Tensor, y: Tensor) -> Tensor:
        right.add_(logits.detach().argmax(1) == y)
        return weighted_cross_entropy(logits, y, reduction="none")

    # A function that counts can't be captured in a graph, so this uses an engine that calls it at each step.
    engine = step.attack.engine if step.attack.engine in ("auto", "fused", "eager") else "auto"
    step.count_attack(len(step.x))
    step.right = right
    return dataclasses.replace(step.attack, loss=counting, engine=engine)(step.model, step.x, step.y)


def gairat(step: Step, offset: float = -1.0) -> Tensor:
    """Samples that fewer attack steps fool weigh more: ``w = (1 + tanh(λ + 5·(1 − 2κ/K)))/2``.

    κ is the number of the attack's K iterates that were still classified correctly, counted in the forward passes that the attack
    makes anyway; with restarts, K counts the steps of all. Zhang et al. 2021 (arXiv 2010.01736), λ = −1.
    """
    assert step.right is not None, "GAIRAT's attack counts the iterates that were classified right"
    share = (step.right / max(1, step.attack.steps * step.attack.restarts)).clamp(max=1)
    weight = (1 + torch.tanh(offset + 5 * (1 - 2 * share))) / 2
    return step.loss(step.x_adv, logits=step.decide(trains=True).logits, weight=_of_mean_one(weight))


def mail(step: Step, slope: float = 10.0, bias: float = 0.5) -> Tensor:
    """Samples of smaller probabilistic margin weigh more: ``w = σ(−γ·(m − β))``, ``m = p_y(x') − max_{k≠y} p_k(x')``.

    Liu et al. 2021 (arXiv 2106.07904, MAIL-AT), γ = 10, β = 0.5.
    """
    logits = step.decide(trains=True).logits
    p = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
    own = p.gather(1, step.y[:, None])
    margin = own - p.scatter(1, step.y[:, None], -1.0).amax(1, keepdim=True)
    weight = torch.sigmoid(-slope * (margin.squeeze(1) - bias))
    return step.loss(step.x_adv, logits=logits, weight=_of_mean_one(weight))


def reweight(step: Step, from_: str = "check.json") -> Tensor:
    """Samples with a suspect label weigh less: w is the probability that the label is correct, from a data check's scores.

    The weights are computed once, before training: :func:`ro_fast.check.sample_weights.weights_of`. Here they are not scaled to
    mean 1, so a batch of suspects moves the model less.
    """
    assert step.kept.weight is not None and step.index is not None, "reweight is given a weight a training image"
    return step.loss(step.x_adv, logits=step.decide(trains=True).logits, weight=step.kept.weight[step.index])


def _of_mean_one(weight: Tensor) -> Tensor:
    return weight * (len(weight) / weight.sum().clamp(min=1e-12))
