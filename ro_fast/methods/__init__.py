"""Methods by name: what each training step does with its samples. A method is a function of the step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.methods.attack_strength import attack_strength
from ro_fast.methods.augmentation import augmentation
from ro_fast.methods.baseline import baseline
from ro_fast.methods.objective import OPTIONS, Objective, build_objective
from ro_fast.methods.options import check_options
from ro_fast.methods.perturbation import foreign_perturbation, frozen_perturbation, perturbation, random_perturbation
from ro_fast.methods.removal import data_and_perturbation, large_loss_removal, mlcat_loss_scaling, random_removal
from ro_fast.methods.step import Decision, Remembered, Step, small_loss_mask

Method = Callable[[Step], Tensor]

METHODS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (
        baseline,
        data_and_perturbation,
        perturbation,
        large_loss_removal,
        random_removal,
        random_perturbation,
        foreign_perturbation,
        frozen_perturbation,
        attack_strength,
        augmentation,
        mlcat_loss_scaling,
    )
}

__all__ = [
    "METHODS",
    "Decision",
    "Method",
    "Objective",
    "Remembered",
    "Step",
    "baseline_of",
    "build_method",
    "build_objective",
    "remembers",
    "small_loss_mask",
]


def build_method(options: dict[str, Any]) -> Method:
    """Returns the method that ``options["name"]`` names with its other options bound.

    "start_epoch" is left to the trainer, "objective" and "beta" to :func:`build_objective`.

    Raises:
        InputError: on an unknown name or option; the message lists those that exist.
    """
    name = options.get("name")
    if name not in METHODS:
        raise InputError(f"method '{name}' is unknown; there are: {', '.join(METHODS)}")
    method = METHODS[name]
    known = list(inspect.signature(method).parameters)[1:]
    given = {key: value for key, value in options.items() if key not in ("name", "start_epoch", *OPTIONS)}
    for key in given:
        if key not in known:
            raise InputError(f"method '{name}' has no option '{key}'; it has: {', '.join([*known, *OPTIONS])}")
    check_options(options)
    objective = build_objective(options)
    if name == "mlcat_loss_scaling" and objective.forwards > 1:
        raise InputError("method 'mlcat_loss_scaling' scales a cross-entropy: method.objective should be at")
    return functools.partial(method, **given)


def baseline_of(options: dict[str, Any]) -> dict[str, Any]:
    """The options of what runs before a method starts: the baseline of the same objective.

    >>> baseline_of({"name": "perturbation", "masks": "frozen", "objective": "trades", "start_epoch": 3})
    {'name': 'baseline', 'objective': 'trades'}
    """
    return {"name": "baseline", **{key: options[key] for key in OPTIONS if key in options}}


def remembers(options: dict[str, Any]) -> bool:
    """Whether a method asks for what its samples were at the fork."""
    return options.get("masks") == "frozen" or options.get("name") == "frozen_perturbation"
