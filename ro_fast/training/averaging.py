"""Averages of the weights during training, which are scored in place of the weights themselves."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.ops._torch_private import AnyBatchNorm
from ro_fast.storage.checkpoint import State

_DECAY = 0.995  # Gowal et al. 2020 (arXiv 2010.03593)


class Averaging:
    """The mean of a model's weights over epochs ("swa") or their exponential mean over steps ("ema").

    "swa": ``w̄ ← w̄ + (w − w̄)/(n + 1)`` after each epoch (Izmailov et al. 2018, arXiv 1803.05407; in adversarial training
    Chen et al. 2021). "ema": ``w̄ ← d·w̄ + (1 − d)·w`` after each step, d = 0.995. Either starts as a copy of the weights at
    its first epoch. BatchNorm's statistics don't follow from averaged weights, so they are recomputed from the natural training
    images after each epoch, as in Chen et al.: one forward pass per image.
    """

    def __init__(self, kind: str, decay: float, start_epoch: float) -> None:
        self.kind, self.decay, self.start_epoch = kind, decay, start_epoch
        self.model: nn.Module | None = None  # the average, once it has started
        self.count = 0

    def begin(self, model: nn.Module, epoch: int) -> None:
        """Starts at the beginning of an epoch if it is due."""
        if self.model is None and epoch >= self.start_epoch:
            self.model = copy.deepcopy(model).eval()
            for p in self.model.parameters():
                p.requires_grad_(False)

    def after_step(self, model: nn.Module) -> None:
        """Updates from the weights after an optimiser step."""
        if self.model is not None and self.kind == "ema":
            self._towards(model, 1 - self.decay)

    def after_epoch(self, model: nn.Module, batches: Iterator[Tensor]) -> int:
        """Updates from the weights after an epoch and renews BatchNorm's statistics; returns the forward passes taken."""
        if self.model is None:
            return 0
        if self.kind == "swa":
            self._towards(model, 1 / (self.count + 1))
            self.count += 1
        return renew_statistics(self.model, batches)

    @torch.no_grad()
    def _towards(self, model: nn.Module, share: float) -> None:
        assert self.model is not None
        for mean, p in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(p, share)

    def state(self) -> State:
        """Its part of a checkpoint besides the average, which is its model."""
        return {"begun": self.model is not None, "count": self.count}

    def restore(self, state: Mapping[str, Any], model: nn.Module, weights: Mapping[str, Any]) -> None:
        """Restores what :meth:`state` returned, with the average's weights for a model of this kind."""
        self.count, self.model = state["count"], None
        if state["begun"]:
            self.begin(model, 2**31)
            assert self.model is not None
            self.model.load_state_dict(weights)


@torch.no_grad()
def renew_statistics(model: nn.Module, batches: Iterator[Tensor]) -> int:
    """Sets BatchNorm's running statistics to their mean over batches, weighted by size; returns the number of samples passed.

    A model without BatchNorm is left alone and sees no samples.
    """
    norms = [m for m in model.modules() if isinstance(m, AnyBatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    momenta, seen = [m.momentum for m in norms], 0
    for m in norms:
        m.reset_running_stats()
        m.train()
    try:
        for x in batches:
            seen += len(x)
            for m in norms:
                m.momentum = len(x) / seen
            model(x)
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
            m.eval()
    return seen


def build_averaging(options: Mapping[str, Any]) -> Averaging | None:
    """The averaging named in a method's options, from its start epoch on or from ``average_from``; or None."""
    kind = options.get("averaging")
    if kind is None:
        return None
    decay, start = options.get("decay"), options.get("average_from")
    first = float(options.get("start_epoch", 0)) if start is None else max(float(start), float(options.get("start_epoch", 0)))
    return Averaging(kind, _DECAY if decay is None else float(decay), first)
