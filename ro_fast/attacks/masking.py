"""Signs of gradient masking: a model that hides its gradients defeats gradient attacks, and robust accuracy means nothing.

Each probe is a question whose answer is known for honest gradients. The questions are from Athalye et al. 2018
(arXiv 1802.00420), section 3.1, and Carlini et al. 2019 (arXiv 1902.06705). A warning is a reason to doubt; its absence proves
nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.attacks.answer import answering
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.cascade import Attack, Stage, cascade
from ro_fast.attacks.engines.eager import input_gradient
from ro_fast.attacks.pgd import PGD
from ro_fast.attacks.square import Square
from ro_fast.attacks.steady import doubts
from ro_fast.ops import weighted_cross_entropy
from ro_fast.said import COMMA, Said, together

VANISHED = 0.05  # fraction of inputs whose gradient is zero
BLACK_BOX = 0.02  # fraction of samples that Square breaks and gradient attacks don't
WEAKER = 0.02  # fraction of samples by which a stronger attack may fall behind by chance
HUGE = 0.5  # radius at which every image can become the same grey
STANDING = 0.1  # accuracy allowed to remain there


@dataclass(frozen=True)
class Probe:
    """The model and the samples that the probes run on."""

    model: Callable[[Tensor], Tensor]
    x: Tensor  # [N, ...] in [0, 1], on the model's device
    y: Tensor  # int64 [N]
    eps: float
    norm: str
    seed: int = 0

    def robust_acc(self, attack: Attack) -> float:
        """Accuracy over every iterate of an attack."""
        stages = cascade(self.model, lambda index: self.x[index], self.y, {"attack": attack}, seed=self.seed)
        return stages[-1].robust.double().mean().item()


def gradient_masking(
    model: Callable[[Tensor], Tensor],  # [N, ...] in [0, 1] -> logits [N, C]
    x: Tensor,  # [N, ...] in [0, 1]
    y: Tensor,  # int64 [N]
    eps: float,
    *,
    norm: str = "linf",
    queries: int = 200,
    seed: int = 0,
) -> list[str]:
    """Checks whether the model's gradients mislead attacks; returns one sentence per sign of it, or nothing if there is none.

    The signs: outputs that are random or depend on the batch; probabilities instead of logits; zero gradients; one step better
    than twenty; a hundred short steps worse than twenty; a loss that doesn't rise with the radius; a huge radius that doesn't
    break the model; a black-box attack that breaks what PGD doesn't. At a radius of 0 nothing is attacked.

    Args:
        model: left as it was found.
        x, y: a few hundred samples are enough.
        eps: the radius of the claim.
        norm: "linf" or "l2", for which Square is not run.
        queries: number of queries of Square.
        seed: draws the noise.

    >>> masked = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(1))
    >>> gradient_masking(masked, torch.rand(9, 2), torch.zeros(9, dtype=torch.int64), 0.1, queries=5)[0][:43]
    'outputs look like probabilities, not logits'
    """
    if not len(y):
        return []
    probe = Probe(answering(model), x, y, eps, norm, seed)
    found = [*unsteady(probe), probabilities(probe), vanishing(probe)]
    if eps > 0:
        found += [*steps(probe), flat_loss(probe), huge_radius(probe)]
        found += [black_box(probe, queries)] if norm == "linf" else []
    return [warning for warning in found if warning is not None]


def unsteady(probe: Probe) -> list[str]:
    """Are outputs repeatable, and independent of the other samples in the batch?"""
    with borrowed(probe.model, "eval"):
        return doubts(probe.model, probe.x)


@torch.no_grad()
def probabilities(probe: Probe) -> str | None:
    """Do rows lie in [0, 1] and sum to 1?"""
    with borrowed(probe.model, "eval"):
        out = probe.model(probe.x)
    if out.min() < 0 or out.max() > 1 or (out.sum(1) - 1).abs().max() > 1e-3:
        return None
    return Said(
        "masking.probabilities",
        "outputs look like probabilities, not logits (every row lies in [0, 1] and sums to 1): cross-entropy applies softmax "
        "again and its gradients shrink; pass the model without its softmax",
    )


def vanishing(probe: Probe) -> str | None:
    """Is the input gradient of cross-entropy zero?"""
    with borrowed(probe.model, "eval"), torch.no_grad():
        gradient = input_gradient(probe.model, _cross_entropy)
        grad = gradient(probe.x, probe.y).flatten(1)
    share = (~grad.isfinite().all(1) | (grad == 0).all(1)).double().mean().item()
    if share <= VANISHED:
        return None
    return Said(
        "masking.vanishing",
        "the input gradient of cross-entropy is zero or not finite at {share} of the samples: PGD can't progress there",
        share=f"{share:.0%}",
    )


def steps(probe: Probe) -> list[str]:
    """Do more steps break fewer samples?"""
    coarse, fine = (PGD(probe.eps, probe.eps * length, n, norm=probe.norm) for n, length in ((20, 1 / 4), (100, 1 / 20)))
    one = dataclasses.replace(coarse, alpha=probe.eps, steps=1, random_start=False)
    first, twenty, hundred = (probe.robust_acc(attack) for attack in (one, coarse, fine))
    found: list[str] = []
    if first < twenty - WEAKER:
        found.append(
            Said(
                "masking.one_step",
                "one gradient step leaves {first} of the samples, twenty leave {twenty}: an iterative attack should be at least "
                "as strong, so the loss surface near the images misleads it",
                first=f"{first:.1%}",
                twenty=f"{twenty:.1%}",
            )
        )
    if hundred > twenty + WEAKER:
        found.append(
            Said(
                "masking.more_steps",
                "twenty steps leave {twenty} of the samples, a hundred steps of a fifth of the size {hundred}: more steps should "
                "not break fewer, so the loss surface near the images is rough",
                twenty=f"{twenty:.1%}",
                hundred=f"{hundred:.1%}",
            )
        )
    return found


def flat_loss(probe: Probe) -> str | None:
    """Does the loss after PGD rise with the radius?"""
    times = (0.0, 0.25, 0.5, 1.0)
    losses = []
    for factor in times:
        eps = factor * probe.eps
        generator = torch.Generator(probe.x.device).manual_seed(probe.seed)
        x_adv = PGD(eps, eps / 4, 20, norm=probe.norm, generator=generator)(probe.model, probe.x, probe.y)
        with borrowed(probe.model, "eval"), torch.no_grad():
            losses.append(weighted_cross_entropy(probe.model(x_adv), probe.y).item())
    told = [
        Said("masking.loss_at", "{loss} at {factor}ε", loss=f"{loss:.3g}", factor=f"{factor:g}")
        for loss, factor in zip(losses, times, strict=True)
    ]
    if all(later > earlier for earlier, later in itertools.pairwise(losses)):
        return None
    return Said("masking.flat", "the loss after PGD does not rise with the radius: {told}", told=together(told, COMMA))


def huge_radius(probe: Probe) -> str | None:
    """Does an attack that may turn every image grey break the model?"""
    eps = HUGE if probe.norm == "linf" else HUGE * math.sqrt(probe.x[0].numel())
    left = probe.robust_acc(PGD(eps, eps / 8, 40, norm=probe.norm))
    if left <= STANDING:
        return None
    return Said(
        "masking.huge",
        "PGD at a radius of {eps}, where every image can become the same grey, leaves {left} of the samples; it should leave "
        "almost none",
        eps=f"{eps:.3g}",
        left=f"{left:.1%}",
    )


def black_box(probe: Probe, queries: int) -> str | None:
    """Does Square break what PGD and PGD on the margin did not?"""
    attacks: dict[str, Attack] = {loss: PGD(probe.eps, probe.eps / 4, 20, loss=loss) for loss in ("ce", "margin")}
    attacks["square"] = Square(probe.eps, queries, seed=probe.seed)
    return black_box_found(cascade(probe.model, lambda index: probe.x[index], probe.y, attacks, seed=probe.seed))


def black_box_found(stages: list[Stage]) -> str | None:
    """The same question for a cascade whose last stage is Square."""
    if len(stages) < 3 or stages[-1].name != "square" or stages[-1].broken <= BLACK_BOX * len(stages[-1].robust):
        return None
    broken = stages[-1].broken
    return Said(
        "masking.square",
        "Square, which uses no gradients, breaks {broken} of {tried} samples that gradient attacks left ({share} of all): "
        "gradients mislead those attacks",
        broken=broken,
        tried=stages[-1].tried,
        share=f"{broken / len(stages[-1].robust):.1%}",
    )


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return weighted_cross_entropy(logits, y, reduction="sum")
