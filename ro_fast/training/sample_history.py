"""What happened to each sample in training: when it was learnt, how often it was forgotten, how large its loss stayed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ro_fast.data.files import read_npz
from ro_fast.storage.checkpoint import write_atomically


@dataclass
class SampleHistory:
    """Kept on the device, one update per step, without synchronising. All values are for adversarial inputs, in train mode.

    * ``forgotten`` [N]: changes from correct to wrong between one epoch and the next (Toneva et al. 2019, arXiv 1812.05159).
    * ``learnt`` [N]: the first epoch in which it was correct; −1 for never.
    * ``loss_sum`` [N]: Σ over epochs of its adversarial cross-entropy. The mean over epochs is the memorisation score: a sample
      that the others don't explain keeps a large loss until it is memorised, as mislabelled ones do (the area under the
      margin of Pleiss et al. 2020, arXiv 2001.10528, is the same idea). It needs one run; it does not distinguish a wrong
      label from a rare but correct image.
    * ``last_loss`` [N]: in the last epoch.
    """

    right: Tensor  # bool [N], in the last epoch
    forgotten: Tensor  # int64 [N]
    learnt: Tensor  # int64 [N]
    loss_sum: Tensor  # float64 [N]
    last_loss: Tensor  # float32 [N]
    epochs: int = 0

    @classmethod
    def empty(cls, n: int, device: torch.device) -> SampleHistory:
        """For n samples before the first epoch."""
        return cls(
            torch.zeros(n, dtype=torch.bool, device=device),
            torch.zeros(n, dtype=torch.int64, device=device),
            torch.full((n,), -1, dtype=torch.int64, device=device),
            torch.zeros(n, dtype=torch.float64, device=device),
            torch.zeros(n, dtype=torch.float32, device=device),
        )

    def update(
        self,
        epoch: int,
        index: Tensor,  # int64 [B], each sample once per epoch
        right: Tensor,  # bool [B]
        loss: Tensor,  # [B]
    ) -> None:
        """Adds a batch."""
        self.forgotten[index] += self.right[index] & ~right
        learnt = self.learnt[index]
        self.learnt[index] = torch.where(right & (learnt < 0), epoch, learnt)
        self.right[index] = right
        self.loss_sum[index] += loss.double()
        self.last_loss[index] = loss.float()
        self.epochs = epoch + 1

    @property
    def memorisation(self) -> Tensor:
        """The mean adversarial loss over epochs, float64 [N]: larger for samples that had to be memorised."""
        return self.loss_sum / max(1, self.epochs)

    def state(self) -> dict[str, Tensor | int]:
        """Its part of a checkpoint."""
        return dict(vars(self))

    def restore(self, state: dict[str, Tensor | int]) -> None:
        """Restores what :meth:`state` returned.

        Raises:
            TypeError: if a part of it is of another kind or size.
        """
        for name, own in list(vars(self).items()):
            value = state[name]
            if isinstance(own, Tensor) and isinstance(value, Tensor) and (value.shape, value.dtype) == (own.shape, own.dtype):
                setattr(self, name, value.to(own.device))
            elif isinstance(own, int) and isinstance(value, int):
                setattr(self, name, value)
            else:
                raise TypeError(f"{name} is not that of {len(self.right)} samples")

    def save(self, path: Path) -> None:
        """Writes ``samples.npz``: forgotten, learnt, memorisation, last_loss, each [N] in the order of the training images."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("forgotten", "learnt", "memorisation", "last_loss")}
        write_atomically(path, lambda file: np.savez(file, **arrays))


@dataclass(frozen=True)
class SampleSummary:
    """A summary of what happened to all samples."""

    forgotten_share: float  # forgotten at least once
    never_learnt_share: float
    # The chance that a sample with a redrawn label has a larger memorisation score than one without (area under the ROC curve;
    # 0.5 carries no information); None if redrawn labels are not known.
    memorisation_auc: float | None


def summarise_samples(
    path: Path,
    redrawn: Tensor | None,  # bool [N], labels known to be redrawn, if known
) -> SampleSummary:
    """The summary of ``samples.npz``.

    Raises:
        InputError: if the file is damaged.
    """
    forgotten, learnt, memorisation = read_npz(path, ("forgotten", "learnt", "memorisation"))
    auc = None
    if redrawn is not None and redrawn.any() and not redrawn.all():
        from sklearn.metrics import roc_auc_score

        auc = float(roc_auc_score(redrawn.numpy(), memorisation))
    return SampleSummary(float((forgotten > 0).mean()), float((learnt < 0).mean()), auc)
