"""Changes to the images of a batch before they are attacked, on the device: mixing, cutting, shifting, erasing.

Each is a function of the step that changes ``step.x`` and, if images are mixed, ``step.target``; a method works on the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.methods.step import Step
from ro_fast.ops._torch_private import standard_gamma

OPTIONS = ("inputs", "inputs_strength")  # for every method
MIXING = ("mixup", "cutmix")


def mixup(step: Step, alpha: float) -> None:
    """``x ← λ·x + (1 − λ)·x_π``, likewise for labels; π a permutation of the batch, λ ~ Beta(α, α) for each image.

    Zhang et al. 2018 (arXiv 1710.09412); Rice et al. 2020 use α = 1.4 in adversarial training. λ is taken as the larger share,
    which gives the same mixtures and makes each image's own label the dominant one.
    """
    g, n = step.generator, len(step.x)
    share = _beta(alpha, n, step.x, g)
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(n, generator=g, device=step.x.device)
    wide = share.to(step.x.dtype).view(-1, *[1] * (step.x.dim() - 1))
    step.x = wide * step.x + (1 - wide) * step.x[other]
    step.target = _mixed(step, other, share)


def cutmix(step: Step, alpha: float) -> None:
    """Pastes in a rectangle of another image; labels are mixed by the area that remains.

    Yun et al. 2019 (arXiv 1905.04899): sides √(1 − λ) of the image's with λ ~ Beta(α, α), α = 1, clipped at the border; in
    adversarial training with weight averaging, Rebuffi et al. 2021 (arXiv 2103.01946).
    """
    g, (n, _, h, w) = step.generator, _images(step, "cutmix")
    side = (1 - _beta(alpha, n, step.x, g)).sqrt()
    inside = _rectangles(n, h, w, side * h, side * w, step.x, g)
    other = torch.randperm(n, generator=g, device=step.x.device)
    step.x = torch.where(inside[:, None], step.x[other], step.x)
    step.target = _mixed(step, other, 1 - inside.flatten(1).float().mean(1))


def cutout(step: Step, share: float) -> None:
    """Blackens a square of ``share`` of the image's side, centred anywhere and clipped at the border.

    DeVries & Taylor 2017 (arXiv 1708.04552); 14 of 32 pixels in Rice et al. 2020.
    """
    n, _, h, w = _images(step, "cutout")
    side = step.x.new_full((n,), 1.0)
    inside = _rectangles(n, h, w, side * round(share * h), side * round(share * w), step.x, step.generator)
    step.x = step.x.masked_fill(inside[:, None], 0.0)


def idbh(step: Step, share: float) -> None:
    """Crop-shift, then random erasing of half the images: the spatial part of IDBH (Li & Spratling 2023, arXiv 2301.09879).

    Crop-shift cuts up to ``share`` of the side off an image, split at random between opposite borders, and places what remains
    at a random position on black; 11 of 32 pixels as published. Erasing fills a rectangle of 2 to 33 % of the area and an
    aspect ratio of 0.3 to 3.3 with noise (Zhong et al. 2020, arXiv 1708.04896). Flips belong to data.augment; IDBH's colour
    changes are left out.
    """
    g, (n, _, h, w) = step.generator, _images(step, "idbh")
    step.x = _crop_shift(step.x, round(share * h), round(share * w), g)
    area, aspect, chance = (torch.rand(3, n, generator=g, device=step.x.device)).unbind()
    area, aspect = 0.02 + 0.31 * area, torch.exp((2 * aspect - 1) * 1.19392247)  # log 3.3
    height, width = (area * aspect).sqrt() * h, (area / aspect).sqrt() * w
    inside = _rectangles(n, h, w, height, width, step.x, g) & (chance < 0.5)[:, None, None]
    noise = torch.rand(step.x.shape, generator=g, device=step.x.device, dtype=step.x.dtype)
    step.x = torch.where(inside[:, None], noise, step.x)


INPUTS: dict[str, tuple[Callable[[Step, float], None], float, tuple[float, float]]] = {  # function, published value, range
    "mixup": (mixup, 1.4, (0.01, 100)),
    "cutmix": (cutmix, 1.0, (0.01, 100)),
    "cutout": (cutout, 14 / 32, (0, 1)),
    "idbh": (idbh, 11 / 32, (0, 0.9)),
}


def build_inputs(options: Mapping[str, Any]) -> Callable[[Step], None] | None:
    """The input change named in a method's options, or None.

    Raises:
        InputError: on an unknown name or an invalid strength.
    """
    name, strength = options.get("inputs"), options.get("inputs_strength")
    if name is None:
        return None
    if name not in INPUTS:
        raise InputError(f"method.inputs '{name}' is unknown; available: {', '.join(INPUTS)}")
    change, published, (least, most) = INPUTS[name]
    value = published if strength is None else strength
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise InputError(f"method.inputs_strength = {value} should be a number from {least:g} to {most:g} for inputs={name}")
    return lambda step: change(step, float(value))


def _images(step: Step, name: str) -> torch.Size:
    if step.x.dim() != 4:
        raise InputError(f"method.inputs={name} needs images [C, H, W], but the inputs are {list(step.x.shape[1:])}")
    return step.x.shape


def _beta(alpha: float, n: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    a, b = standard_gamma(torch.full((2, n), alpha, device=like.device), generator).clamp(min=1e-12)
    return a / (a + b)


def _mixed(step: Step, other: Tensor, share: Tensor) -> Tensor:
    hard = torch.nn.functional.one_hot(step.y, step.kept.classes).float()
    return share[:, None] * hard + (1 - share[:, None]) * hard[other]


def _rectangles(
    n: int, h: int, w: int, height: Tensor, width: Tensor, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Bool [N, H, W]: inside a rectangle of size [N] in pixels, rounded, whose centre lies anywhere in the image."""
    down, right = torch.rand(2, n, generator=generator, device=like.device)

    def along(size: int, length: Tensor, centre: Tensor) -> Tensor:
        length = length.round()
        start = ((centre * size).floor() - (length / 2).floor())[:, None]
        position = torch.arange(size, device=like.device)
        return (position >= start) & (position < start + length[:, None])

    return along(h, height, down)[:, :, None] & along(w, width, right)[:, None, :]


def _crop_shift(x: Tensor, most_rows: int, most_columns: int, generator: torch.Generator | None) -> Tensor:
    n, c, h, w = x.shape

    def along(size: int, most: int) -> tuple[Tensor, Tensor]:
        """The source of each position, [N, size], and whether it lies in what remains."""
        cut, before, place = torch.rand(3, n, generator=generator, device=x.device)
        cut = (cut * (most + 1)).floor()
        before, place = (before * (cut + 1)).floor(), (place * (cut + 1)).floor()
        source = torch.arange(size, device=x.device) - place[:, None] + before[:, None]
        inside = (source >= before[:, None]) & (source < size - (cut - before)[:, None])
        return source.clamp(0, size - 1).long(), inside

    rows, row_inside = along(h, most_rows)
    columns, column_inside = along(w, most_columns)
    sample = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(c, device=x.device)[:, None, None]
    moved = x[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
    inside = (row_inside[:, :, None] & column_inside[:, None, :])[:, None]
    return torch.where(inside, moved, torch.zeros((), dtype=x.dtype, device=x.device)).contiguous(
        memory_format=torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )
