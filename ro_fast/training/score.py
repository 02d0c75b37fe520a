"""Natural and robust accuracy of a model on stored images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.borrow import borrowed
from ro_fast.features.reader import FeatureReader
from ro_fast.ops import weighted_cross_entropy
from ro_fast.parallel import ALONE, World

Features = dict[str, dict[str, Tensor]]  # "natural", "adversarial" -> layer -> [N, D]


@dataclass(frozen=True)
class Scores:
    """Accuracies are fractions; the loss is the mean cross-entropy on adversarial inputs, in nats."""

    acc: float
    robust_acc: float
    robust_loss: float
    robust: Tensor  # bool [N], correct on the adversarial input
    features: Features | None = None


def evaluate(
    model: nn.Module,
    batches: Callable[[Tensor], Tensor],  # indices [B] -> inputs [B, ...] in [0, 1]
    y: Tensor,  # int64 [N]
    attack: PGD,
    batch_size: int,
    reader: FeatureReader | None = None,
    world: World = ALONE,
) -> Scores:
    """Scores a model in eval mode, on natural inputs and the last iterate, and leaves it as it was; synchronises once.

    With a reader of the model's features, the features of both are kept, read in the same forward passes. Of several processes
    each takes its batches in turn, or, with a reader, all of them.

    :func:`ro_fast.attacks.any_step` judges every iterate, which is stricter, and drops broken samples, which is faster.
    """
    totals = torch.zeros(2, dtype=torch.float64, device=y.device)
    robust = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    read: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    with borrowed(model, "eval"):
        for i, index in enumerate(torch.arange(len(y), device=y.device).split(batch_size)):
            x, target = batches(index), y[index]
            if reader is None and i % world.size != world.rank:
                attack.noise(x)  # drawn all the same, so that noise does not depend on the number of processes
                continue
            x_adv = attack(model, x, target)
            with torch.no_grad():
                if reader is None:
                    logits, logits_adv = model(x), model(x_adv)
                else:
                    (logits, natural), (logits_adv, adversarial) = reader(x), reader(x_adv)
                    read.append((natural, adversarial))
                totals[0] += (logits.argmax(1) == target).sum()
                robust[index] = logits_adv.argmax(1) == target
                totals[1] += weighted_cross_entropy(logits_adv, target, reduction="sum")
    if reader is None:
        world.total(totals)
        robust = world.total(robust.int()).bool()
    acc, robust_loss, robust_acc = (torch.cat([totals, robust.sum(dtype=torch.float64)[None]]) / len(y)).tolist()
    return Scores(acc, robust_acc, robust_loss, robust, _joined(read) if reader is not None else None)


def _joined(read: list[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> Features:
    return {
        kind: {layer: torch.cat([batch[i][layer] for batch in read]) for layer in read[0][i]}
        for i, kind in enumerate(("natural", "adversarial"))
    }
