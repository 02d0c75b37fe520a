"""``test_images.npz`` of a run: which test images it classified correctly under attack after each epoch, one bit per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.storage.checkpoint import write_atomically

FILE = "test_images.npz"


@dataclass
class RobustImages:
    """Test images by epoch: correct under the run's attack or not."""

    bits: Tensor  # uint8 [epochs, ⌈images / 8⌉], the first image in the highest bit

    @classmethod
    def empty(cls, images: int) -> RobustImages:
        """Before the first epoch."""
        return cls(torch.empty(0, (images + 7) // 8, dtype=torch.uint8))

    @classmethod
    def of(cls, bits: Tensor, images: int) -> RobustImages:
        """Raises TypeError if the bits are not those of so many images."""
        if (bits.dtype, bits.shape[1:]) != (torch.uint8, cls.empty(images).bits.shape[1:]):
            raise TypeError(f"the test images noted are not {images}")
        return cls(bits)

    def add(self, robust: Tensor) -> None:  # bool [images], on any device
        """Adds an epoch."""
        packed = torch.from_numpy(np.packbits(robust.cpu().numpy()))
        self.bits = torch.cat([self.bits, packed[None]])

    def save(self, path: Path, images: int) -> None:
        """Writes the file: ``robust`` as above and the number of ``images``."""
        write_atomically(path, lambda file: np.savez_compressed(file, robust=self.bits.numpy(), images=images))


def read_robust_images(path: Path) -> NDArray[np.bool_] | None:  # [epochs, images]
    """The contents of a run's file; None if there is none, as in runs of older versions.

    Raises:
        InputError: if it is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            return np.unpackbits(file["robust"], axis=1, count=int(file["images"])).astype(bool)
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(f"{path} is damaged ({error}): move it away and run the same command again") from error
