"""Training methods: each is a small function of one training step that returns the loss to descend.

A method is named in the configuration with its options: ``method: {name: attack_strength, eps_ratio: 2}``.
To add one, write the function, list it here and give it a YAML of a few lines below ``configs/method/``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.methods.attack_strength import attack_strength
from ro_fast.methods.baseline import baseline
from ro_fast.methods.perturbation import perturbation
from ro_fast.methods.removal import data_and_perturbation, large_loss_removal
from ro_fast.methods.step import Decision, Step, small_loss_mask

Method = Callable[[Step], Tensor]

METHODS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (baseline, data_and_perturbation, perturbation, large_loss_removal, attack_strength)
}

__all__ = ["METHODS", "Decision", "Method", "Step", "build_method", "small_loss_mask"]


def build_method(options: dict[str, Any]) -> Method:
    """Returns the method that ``options["name"]`` names with the other options bound, "start_epoch" left to the trainer.

    Raises:
        InputError: on an unknown name or option; the message lists those that exist.
    """
    name = options.get("name")
    if name not in METHODS:
        raise InputError(f"method '{name}' is unknown; there are: {', '.join(METHODS)}")
    method = METHODS[name]
    known = list(inspect.signature(method).parameters)[1:]
    given = {key: value for key, value in options.items() if key not in ("name", "start_epoch")}
    for key in given:
        if key not in known:
            raise InputError(f"method '{name}' has no option '{key}'; it has: {', '.join(known) or 'none'}")
    return functools.partial(method, **given)
