"""Image classification data, held in memory and on the device."""

from __future__ import annotations

from ro_fast.data.augment import AUGMENTATIONS, augment, crop_flip
from ro_fast.data.image_data import ImageData, batch_images
from ro_fast.data.load import balanced_subset, load_data, redraw_labels
from ro_fast.data.sources import SOURCES

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
