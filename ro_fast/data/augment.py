"""Random crop and flip of a whole batch at once, on the device that holds it."""

from __future__ import annotations

import torch
from torch import Tensor

from ro_fast.errors import InputError

AUGMENTATIONS = ("none", "crop", "crop_flip")
PAD = 4  # pixels by which a crop may move


def check_augment(kind: str, image_shape: tuple[int, ...]) -> None:
    """Raises InputError if images of a shape, (C, H, W) or (D,), cannot be augmented in this way."""
    if kind not in AUGMENTATIONS:
        raise InputError(f"data.augment '{kind}' is unknown; available: {', '.join(AUGMENTATIONS)}")
    if kind != "none" and (len(image_shape) != 3 or min(image_shape[1:]) <= PAD):
        raise InputError(
            f"data.augment={kind} reflects {PAD} pixels, so it needs images [C, H, W] larger than {PAD} x {PAD} pixels "
            f"but they are {list(image_shape)}; use data.augment=none"
        )


def _reflect(position: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - position.abs()).abs()


def crop_flip(
    x: Tensor,  # [N, C, H, W], any dtype
    down: Tensor,  # [N] int64 in 0..2*PAD, first row of the crop in the padded image
    right: Tensor,  # [N] int64 in 0..2*PAD, its first column
    flip: Tensor | None = None,  # [N] bool, left-right after cropping
) -> Tensor:
    """Reflect-pads by PAD, crops to the old size at the given offsets, and flips.

    The padded image is never created: each pixel is gathered from where its reflection lies.
    """
    n, c, h, w = x.shape
    rows = torch.arange(h, device=x.device)
    columns = torch.arange(w, device=x.device).expand(n, w)
    if flip is not None:
        columns = torch.where(flip[:, None], w - 1 - columns, columns)
    rows = _reflect(rows + down[:, None] - PAD, h)  # [N, H]
    columns = _reflect(columns + right[:, None] - PAD, w)  # [N, W]
    sample = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(c, device=x.device)[:, None, None]
    return x[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def augment(x: Tensor, kind: str, generator: torch.Generator | None = None) -> Tensor:
    """Augments each image of a batch by its own random crop ("crop") and flip ("crop_flip").

    Args:
        x: images [N, C, H, W], any dtype.
        kind: "none", "crop" or "crop_flip".
        generator: on the device of x; determines the result.

    Returns:
        Images of the same shape and dtype; x itself for "none".

    Raises:
        InputError: unknown kind, or images too small to reflect.
    """
    check_augment(kind, tuple(x.shape[1:]))
    if kind == "none":
        return x
    down, right = torch.randint(2 * PAD + 1, (2, len(x)), generator=generator, device=x.device)
    flip = None
    if kind == "crop_flip":
        flip = torch.randint(2, (len(x),), generator=generator, device=x.device).bool()
    return crop_flip(x, down, right, flip)
