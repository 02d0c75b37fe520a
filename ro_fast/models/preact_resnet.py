"""Pre-activation residual networks (He et al. 2016, arXiv 1603.05027), in the version for 32×32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, without a bias, which the BatchNorm after it would cancel."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice; if the shape changes, the shortcut is a 1×1 convolution of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = None if same_shape else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [N, inputs, H, W] -> [N, outputs, H/stride, W/stride]
        activated = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut


def preact_trunk(channels: int, stem: int, widths: Sequence[int], blocks: int) -> tuple[nn.Sequential, int]:
    """Builds stem, stages (each after the first halves the resolution), final BN-ReLU and mean over positions."""
    layers: list[nn.Module] = [conv3x3(channels, stem)]
    inputs = stem
    for stage, outputs in enumerate(widths):
        strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
        layers.append(
            nn.Sequential(
                *[PreActBlock(inputs if i == 0 else outputs, outputs, stride) for i, stride in enumerate(strides)]
            )
        )
        inputs = outputs
    return nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), inputs


def preact_resnet18(image_shape: tuple[int, ...], width: int = 0) -> tuple[nn.Module, int]:
    """Builds the trunk of PreActResNet-18 with PyTorch's default initialisation; width is not used."""
    return preact_trunk(image_shape[0], stem=64, widths=(64, 128, 256, 512), blocks=2)
