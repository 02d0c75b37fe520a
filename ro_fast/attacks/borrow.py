"""Borrowing a model for an attack: its mode and its parameters' flags are given back whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

MODES = ("eval", "train", "keep")


@contextlib.contextmanager
def borrowed(model: Callable[..., Any], mode: str) -> Iterator[None]:
    """Sets the model's mode and freezes its parameters for the block, then restores every module and parameter.

    Frozen parameters spare more than their gradients: the inputs that only a weight gradient needs are not kept.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    trainable = [p for p in model.parameters() if p.requires_grad]
    try:
        if mode != "keep":
            model.train(mode == "train")
        for p in trainable:
            p.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for p in trainable:
            p.requires_grad_(True)
