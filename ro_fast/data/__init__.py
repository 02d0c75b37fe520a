"""Image classification data, held in memory and on the device."""

from __future__ import annotations

from ro_fast.data.augment import AUGMENTATIONS, augment, crop_flip
from ro_fast.data.image_data import ImageData
from ro_fast.data.load import load_data
from ro_fast.data.sources import SOURCES
from ro_fast.data.subsets import balanced_subset, matched_subsets, redraw_labels

__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "ImageData",
    "augment",
    "balanced_subset",
    "crop_flip",
    "load_data",
    "matched_subsets",
    "redraw_labels",
]
