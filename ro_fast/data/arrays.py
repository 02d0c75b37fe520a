"""All images and labels of a source, before anything is drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ro_fast.data.stored_images import StoredImages
from ro_fast.said import Said


@dataclass(frozen=True)
class Arrays:
    """All images and labels of a source, as found."""

    where: str  # its name in error messages
    x_train: np.ndarray | StoredImages  # [N, C, H, W] or [N, D], uint8 or float32
    y_train: np.ndarray  # [N] int64
    x_test: np.ndarray | StoredImages
    y_test: np.ndarray
    scale: float = 255.0  # the stored value that corresponds to 1.0
    num_classes: int | None = None  # None: as many as there are distinct labels
    files: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # of x_train and x_test, if each image has its own
    rows: tuple[np.ndarray, np.ndarray] | None = None  # int64 numbers that the user knows them by; None: 0, 1, ... in each part
    numbering: str = Said("numbering.published", "place in the data set as published, counted from 0")  # what such a number is
    skipped: tuple[str, ...] = ()  # unreadable files that were left out
    class_names: tuple[str, ...] = ()  # by label, if known

    def class_name(self, label: int) -> str:
        """The meaning of a label, in words if known."""
        return self.class_names[label] if self.class_names else str(label)
