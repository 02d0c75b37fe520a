"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146), without dropout."""

from __future__ import annotations

from torch import nn

from ro_fast.models.preact_resnet import preact_trunk


def wide_resnet34_10(image_shape: tuple[int, ...], width: int = 0) -> tuple[nn.Module, int]:
    """Builds the trunk of WRN-34-10: three stages of (34 − 4) / 6 = 5 blocks, with ten times 16, 32, 64 channels.

    Convolutions are initialised from N(0, 2 / (k²·outputs)), as in the paper's code; width is not used.
    """
    trunk, feature_size = preact_trunk(image_shape[0], stem=16, widths=(160, 320, 640), blocks=5)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk, feature_size
