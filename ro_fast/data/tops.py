"""The embedded data set ``tops``: five kinds of clothes that look alike, with their own labels and no planted noise.

T-shirts, pullovers, dresses, coats and shirts of Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747; copyright Zalando SE 2017,
MIT licence, in tops.LICENCE): of each kind the first 200 images of the training set and of the test set, means over 2×2 pixels.
tops.npz was written by ``numpy.savez_compressed(FILE, **make(FOLDER))``; a test makes its arrays again and compares.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ro_fast.data.files import read_idx

FILE = Path(__file__).with_name("tops.npz")
NAMES = ("T-shirt", "pullover", "dress", "coat", "shirt")
KINDS = (0, 2, 3, 4, 6)  # their labels in Fashion-MNIST
PER_KIND = 200  # of training and of test images


def make(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of tops.npz, from a folder with Fashion-MNIST's four files."""
    arrays = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        x = read_idx(_file(folder, f"{stem}-images-idx3-ubyte"), ndim=3)
        y = read_idx(_file(folder, f"{stem}-labels-idx1-ubyte"), ndim=1)
        rows = np.concatenate([np.flatnonzero(y == kind)[:PER_KIND] for kind in KINDS])
        sums = x[rows].reshape(-1, 14, 2, 14, 2).astype(np.uint16).sum((2, 4))
        arrays[f"x_{part}"] = ((sums + 2) // 4).astype(np.uint8)[:, None]
        arrays[f"y_{part}"] = np.repeat(np.arange(len(KINDS), dtype=np.uint8), PER_KIND)
    return arrays


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.exists() else folder / name
