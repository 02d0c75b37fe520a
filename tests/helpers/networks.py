"""Random networks: layer graphs as people write them, including what misleads a reader of modules."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class RandomNetwork(nn.Module):
    """A few blocks drawn from :data:`BLOCKS`, then a head; float64, in eval mode, with non-initial statistics.

    The same seed gives the same network.
    """

    def __init__(self, seed: int, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.width = draw.choice([4, 6])
        self.stem = nn.Conv2d(channels, self.width, 3, padding=1)
        self.kinds = [draw.choice(sorted(BLOCKS)) for _ in range(draw.randint(1, 4))]
        self.blocks = nn.ModuleList(BLOCKS[kind](draw, self.width) for kind in self.kinds)
        self.head = draw.choice(sorted(HEADS))
        self.linear = nn.Linear(self.width * (36 if self.head == "flat" else 1), classes)
        self.double().eval()
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
                if module.weight is not None:
                    nn.init.normal_(module.weight, 1, 0.4)
                    nn.init.normal_(module.bias, 0, 0.4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.linear(HEADS[self.head](x))


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": lambda x: F.adaptive_avg_pool2d(x, 6).flatten(1),
    "mean": lambda x: x.mean([-1, -2]),
    "mean of positive": lambda x: torch.flatten(F.adaptive_avg_pool2d(F.relu(x), 1), 1),
    "largest": lambda x: F.adaptive_max_pool2d(x, 1).reshape(x.size(0), -1),
    "view": lambda x: F.avg_pool2d(x, x.shape[-1]).view(x.shape[0], -1) if x.shape[-1] == x.shape[-2] else x.mean((2, 3)),
    "sum of two": lambda x: sum([x.mean((2, 3)), 0.5 * x.amax((2, 3))]),
}


def _conv(draw: random.Random, width: int) -> nn.Module:
    groups = draw.choice([1, 1, 2, width])
    size, dilation = draw.choice([(1, 1), (3, 1), (3, 2), (5, 1)])
    return nn.Conv2d(
        width, width, size, stride=1, padding=dilation * (size // 2), dilation=dilation, groups=groups, bias=draw.random() < 0.5
    )


class _Block(nn.Module):
    def __init__(self, draw: random.Random, width: int) -> None:
        super().__init__()
        self.a, self.b = _conv(draw, width), _conv(draw, width)
        self.norm, self.norm2 = nn.BatchNorm2d(width, affine=draw.random() < 0.8), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.pool, self.drop = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5)
        self.scale = draw.choice([2.0, -0.5, 3])


def _block(forward: Callable[[_Block, Tensor], Tensor]) -> Callable[[random.Random, int], nn.Module]:
    return lambda draw, width: type("Block", (_Block,), {"forward": forward})(draw, width)


def _in_place_reused(s: _Block, x: Tensor) -> Tensor:
    h = s.a(x)
    return h + s.b(s.relu(h))


def _in_place_after_norm(s: _Block, x: Tensor) -> Tensor:
    h = s.norm(s.a(x))
    return h * 0.5 + s.b(F.relu(h, inplace=True))


def _accumulated(s: _Block, x: Tensor) -> Tensor:
    y = s.norm(s.a(x))
    y += x
    y *= s.scale
    return y.relu_()


def _noted(s: _Block, x: Tensor) -> Tensor:
    with torch.no_grad():
        weight = torch.sigmoid(x.mean((2, 3), keepdim=True))
    return s.a(x) * weight


def _by_sign(s: _Block, x: Tensor) -> Tensor:
    return torch.where(x > 0, s.a(x), s.b(x).clamp(min=-0.1))


def _concatenated(s: _Block, x: Tensor) -> Tensor:
    half = torch.cat([s.norm(s.a(x)), x], dim=1).relu()
    return half[:, ::2] + half.chunk(2, 1)[1]


def _strided(s: _Block, x: Tensor) -> Tensor:
    half = F.conv2d(x, s.a.weight, s.a.bias, 2, s.a.padding, s.a.dilation, s.a.groups)
    return F.interpolate(half, scale_factor=2)


def _attended(s: _Block, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    weight = torch.softmax(tokens @ tokens.transpose(1, 2) / 4, dim=-1)
    return x + (weight @ tokens).transpose(1, 2).reshape(x.shape)


BLOCKS: dict[str, Callable[[random.Random, int], nn.Module]] = {
    "conv, norm, relu": _block(lambda s, x: F.relu(s.norm(s.a(x)))),
    "norm first": _block(lambda s, x: s.a(s.relu(s.norm(x.clone())))),
    "norm alone": _block(lambda s, x: s.norm(x) + s.norm2(s.norm(x))),
    "residual": _block(lambda s, x: F.relu(x + s.norm2(s.b(s.relu(s.norm(s.a(x))))))),
    "in place, input used again": _block(_in_place_reused),
    "in place after norm, used again": _block(_in_place_after_norm),
    "accumulated in place": _block(_accumulated),
    "alpha": _block(lambda s, x: torch.add(s.a(x), s.b(x), alpha=s.scale)),
    "constant": _block(lambda s, x: s.a(x) + 0.5),
    "constant tensor": _block(lambda s, x: s.a(x) * torch.tensor(s.scale)),
    "from the left": _block(lambda s, x: 1 - s.scale * s.a(x)),
    "broadcast": _block(lambda s, x: F.relu(x + s.pool(s.a(x)))),
    "sum of branches": _block(lambda s, x: sum([s.a(x), s.b(x)])),
    "dropout": _block(lambda s, x: s.drop(F.dropout(s.a(x), 0.3, s.training))),
    "squeeze and excite": _block(lambda s, x: x * torch.sigmoid(s.a(s.pool(x).expand_as(x)))),
    "no gradient inside": _block(_noted),
    "by sign": _block(_by_sign),
    "concatenated": _block(_concatenated),
    "weights used twice": _block(lambda s, x: s.a(F.relu(s.a(x)))),
    "norm used twice": _block(lambda s, x: s.norm(s.a(s.norm(s.a(x))).relu())),
    "strided by hand": _block(_strided),
    "attention": _block(_attended),
    "smooth": _block(lambda s, x: F.silu(s.norm(s.a(x))) + F.gelu(s.b(x))),
    "keywords": _block(lambda s, x: F.leaky_relu(input=s.a(x), negative_slope=0.1)),
    "scaled output": lambda draw, width: _called_otherwise(_conv(draw, width)),
    "weight norm": lambda draw, width: parametrizations.weight_norm(_conv(draw, width)),
    "pooled": lambda draw, width: nn.Sequential(
        nn.MaxPool2d(3, stride=1, padding=1), nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=draw.random() < 0.5)
    ),
    "padded": lambda draw, width: nn.Sequential(
        nn.ReflectionPad2d(1),
        nn.Conv2d(width, width, 3),
        nn.BatchNorm2d(width, track_running_stats=draw.random() < 0.7),
        nn.ReLU(),
    ),
    "circular": lambda draw, width: nn.Conv2d(width, width, 3, padding=1, padding_mode="circular"),
    "transposed": lambda draw, width: nn.Sequential(
        nn.ConvTranspose2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
    ),
    "group norm": lambda draw, width: nn.Sequential(_conv(draw, width), nn.GroupNorm(2, width), nn.ReLU(True)),
    "patched": lambda draw, width: _patched(nn.Sequential(_conv(draw, width), nn.ReLU())),
}


def _called_otherwise(module: nn.Module) -> nn.Module:
    class Twice(type(module)):  # type: ignore[misc]
        def __call__(self, x: Tensor) -> Tensor:
            return 2 * super().__call__(x)

    module.__class__ = Twice
    return module


def _patched(module: nn.Sequential) -> nn.Module:
    first = module[0].forward
    module[0].forward = lambda x: 3 * first(x)  # type: ignore[method-assign]
    return module
