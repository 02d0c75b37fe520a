"""AugMix in batches on the device (Hendrycks et al. 2020, arXiv 1912.02781); the single operations are kornia's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.installing import pip_install

_ROTATION, _SHEAR, _SHIFT = 30.0, 0.3, 1 / 3  # degrees, slope and fraction of the side at severity 10, as published


def augmix(
    x: Tensor,  # [N, C, H, W] in [0, 1]
    generator: torch.Generator | None = None,  # on the device of x
    *,
    severity: int = 3,
    width: int = 3,
    depth: int = 0,
) -> Tensor:
    """Mixes each image with chains of random operations on it: ``(1 − m)·x + m·Σ_k w_k·chain_k(x)``.

    ``w ~ Dirichlet(1, …, 1)`` over ``width`` chains, ``m ~ U(0, 1)``; a chain is ``depth`` operations (0: one to three at
    random) drawn for each image from rotate, shear, translate, posterize, solarize and equalize, of random strength up to
    ``severity`` of 10. Each image gets its own draws.

    Returns:
        [N, C, H, W] in [0, 1], in the dtype of x.

    Raises:
        InputError: if x holds no images, or kornia is not installed.
    """
    if x.dim() != 4:
        raise InputError(f"method augmentation: inputs of shape {list(x.shape[1:])} are not images [C, H, W], which AugMix needs")
    operations = _operations()
    n, device = len(x), x.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    weights = uniform(n, width).clamp(min=1e-12).log().neg()  # exponential: their normalised values are Dirichlet(1, …, 1)
    weights = weights / weights.sum(1, keepdim=True)
    mixed = torch.zeros_like(x)
    for chain in range(width):
        links = (
            torch.randint(1, 4, (n,), generator=generator, device=device)
            if depth == 0
            else torch.full((n,), depth, device=device)
        )
        image = x.clone()
        for link in range(depth or 3):
            choice = torch.randint(len(operations), (n,), generator=generator, device=device)
            strength = (0.1 + uniform(n) * (severity - 0.1)) / 10 * torch.where(uniform(n) < 0.5, -1.0, 1.0)
            for number, operation in enumerate(operations):
                of_it = ((choice == number) & (link < links)).nonzero().squeeze(1)
                if len(of_it):
                    image[of_it] = operation(image[of_it].float(), strength[of_it]).clamp(0, 1).to(x.dtype)
        mixed += weights[:, chain].to(x.dtype).view(-1, 1, 1, 1) * image
    m = uniform(n).to(x.dtype).view(-1, 1, 1, 1)
    return (1 - m) * x + m * mixed


def _operations() -> list[Callable[[Tensor, Tensor], Tensor]]:
    """Functions of images [N, C, H, W] and a strength in [−1, 1] for each."""
    try:
        from kornia.enhance import equalize, posterize, solarize
        from kornia.geometry.transform import rotate, shear, translate
    except ImportError as error:
        raise InputError(f"method augmentation needs kornia: {pip_install('train')}") from error

    def along(axis: int, amount: Tensor) -> Tensor:
        both = torch.zeros(len(amount), 2, device=amount.device)
        both[:, axis] = amount
        return both

    return [
        lambda x, s: rotate(x, _ROTATION * s, padding_mode="reflection"),
        lambda x, s: shear(x, along(0, _SHEAR * s), padding_mode="reflection"),
        lambda x, s: shear(x, along(1, _SHEAR * s), padding_mode="reflection"),
        lambda x, s: translate(x, along(0, _SHIFT * s * x.shape[3]), padding_mode="reflection"),
        lambda x, s: translate(x, along(1, _SHIFT * s * x.shape[2]), padding_mode="reflection"),
        lambda x, s: posterize(x, (4 * (1 - s.abs())).round().to(torch.int32) + 4),
        lambda x, s: solarize(x, 1 - s.abs()),
        lambda x, s: equalize(x),
    ]
