"""Image classification data, held in memory and on the device."""

from __future__ import annotations

from .augment import AUGMENTATIONS, augment, crop_flip
from .image_data import ImageData, batch_images
from .load import balanced_subset, load_data, redraw_labels
from .sources import SOURCES

__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "ImageData",
    "augment",
    "balanced_subset",
    "batch_images",
    "crop_flip",
    "load_data",
    "redraw_labels",
]
