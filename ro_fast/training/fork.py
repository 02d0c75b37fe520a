"""The state of every training sample at the fork: its adversarial loss and perturbation against the model of the fork."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.borrow import borrowed
from ro_fast.methods.objective import Objective
from ro_fast.ops import weighted_cross_entropy
from ro_fast.storage import checkpoint


@dataclass(frozen=True)
class ForkMemory:
    """For each training image as stored, not augmented, against the model in eval mode."""

    loss: Tensor  # [N] adversarial cross-entropy
    perturbation: Tensor  # [N, ...]
    num_classes: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        batches: Callable[[Tensor], Tensor],  # indices [B] -> inputs [B, ...] in [0, 1]
        y: Tensor,  # int64 [N]
        attack: PGD,
        objective: Objective,
        batch_size: int,
    ) -> ForkMemory:
        """Attacks every training image once and leaves the model as it was."""
        losses, perturbations = [], []
        with borrowed(model, "eval"):
            for index in torch.arange(len(y), device=y.device).split(batch_size):
                x = batches(index)
                x_adv = objective.attack(attack, model, x, y[index])
                with torch.no_grad():
                    logits = model(x_adv)
                losses.append(weighted_cross_entropy(logits, y[index], reduction="none"))
                perturbations.append((x_adv - x).contiguous())
        return cls(torch.cat(losses), torch.cat(perturbations), logits.shape[1])

    def save(self, path: Path) -> None:
        """Writes it atomically."""
        state = {"loss": self.loss, "perturbation": self.perturbation, "num_classes": self.num_classes}
        checkpoint.save(path, state)

    @classmethod
    def load(cls, path: Path, device: torch.device, images: torch.Size) -> ForkMemory:
        """Reads what :meth:`save` wrote for training images of that shape, [N, ...]."""
        state = checkpoint.load(path)
        with checkpoint.taking_apart(path):
            if state["loss"].shape != images[:1] or state["perturbation"].shape != images:
                raise ValueError("of other images")
            return cls(state["loss"].to(device), state["perturbation"].to(device), int(state["num_classes"]))
