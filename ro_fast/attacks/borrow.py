"""Borrowing a model for an attack: its mode and its parameters' flags are restored whatever happens."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

MODES = ("eval", "train", "keep")


@contextlib.contextmanager
def borrowed(model: Callable[..., Any], mode: str) -> Iterator[None]:
    """Sets the model's mode and freezes its parameters for the block, then restores every module and parameter.

    Freezing parameters saves more than their gradients: inputs needed only for weight gradients are not kept. If the model is a
    function, the networks it calls are borrowed, as far as :func:`networks_behind` finds them.
    """
    networks = networks_behind(model)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    trainable = [p for network in networks for p in network.parameters() if p.requires_grad]
    try:
        if mode != "keep":
            for network in networks:
                network.train(mode == "train")
        for p in trainable:
            p.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for p in trainable:
            p.requires_grad_(True)


def networks_behind(model: Callable[..., Any]) -> list[nn.Module]:
    """The networks that calling ``model`` may run: the model itself, those in a function's closure, defaults and globals or in a
    partial's arguments, or the owner of a method. Networks hidden deeper, such as in a list or an attribute, are not found.

    >>> layer = nn.Linear(2, 2)
    >>> networks_behind(lambda x: layer(2 * x)) == networks_behind(layer.forward) == [layer]
    True
    """
    found: list[nn.Module] = []
    waiting: list[Any] = [model]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif inspect.ismethod(value):
            waiting += [value.__self__, value.__func__]
        elif inspect.isfunction(value):
            waiting += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
            waiting += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            named = (value.__globals__.get(name) for name in value.__code__.co_names)
            waiting += [other for other in named if isinstance(other, nn.Module)]
    return found


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is not yet bound
        return False
