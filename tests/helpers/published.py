"""Networks with the names of published code, reimplemented: weights saved from them are what other projects distribute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class _PreActBlock(nn.Module):
    """Named as in kuangliu's collection, from which Rice et al. 2020 and RobustBench took it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class RicePreAct(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = conv(3, 64)
        inputs = 64
        for i, outputs in enumerate((64, 128, 256, 512)):
            blocks = _PreActBlock(inputs, outputs, 1 if i == 0 else 2), _PreActBlock(outputs, outputs, 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.bn, self.linear = nn.BatchNorm2d(512), nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(F.avg_pool2d(F.relu(self.bn(out)), 4).flatten(1))


class RobustBenchPreAct(RicePreAct):
    """With the normalisation as separate buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("sigma", torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mu) / self.sigma)


class _WideBlock(nn.Module):
    """Named as in TRADES' code."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(out)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(out))))


class _WideStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, blocks: int) -> None:
        super().__init__()
        rest = [_WideBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(_WideBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class TradesWide(nn.Module):
    def __init__(self, widen: int = 10, blocks: int = 5) -> None:
        super().__init__()
        widths = 16, 16 * widen, 32 * widen, 64 * widen
        self.conv1 = conv(3, 16)
        for i in range(3):
            setattr(self, f"block{i + 1}", _WideStage(widths[i], widths[i + 1], 1 if i == 0 else 2, blocks))
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(F.avg_pool2d(out, 8).flatten(1))


def settled(model: nn.Module) -> nn.Module:
    """With non-initial statistics and affine weights, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()
