"""The values that methods' options may take, by name: an option means the same in every method that has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ro_fast.errors import InputError
from ro_fast.methods import inputs, objective, weight_perturbation

AVERAGING = ("averaging", "decay", "average_from")  # ro_fast/training/averaging.py
# Options of every method; None is the default of each but the objective.
COMMON = (*objective.OPTIONS, *inputs.OPTIONS, *AVERAGING, *weight_perturbation.OPTIONS, "l1")

WORDS: dict[str, tuple[str, ...]] = {
    "masks": ("moving", "frozen"),
    "denominator": ("all", "kept"),
    "lr": ("as_is", "matched"),
    "direction": ("below", "above"),
    "averaging": ("ema", "swa"),
}
FLAGS = ("removed_in_batchnorm", "detach")
NUMBERS: dict[str, tuple[float, float]] = {
    "eps_ratio": (0, math.inf),
    "beta": (0, math.inf),
    "share": (0, 1),
    "rounds": (1, 100),
    "severity": (1, 10),
    "width": (1, 10),
    "depth": (0, 10),
    "smoothing": (0, 1),
    "momentum": (0, 1),
    "natural_share": (0, 1),
    "robust_share": (0, 1),
    "temperature": (0.01, 1000),
    "offset": (-1000, 1000),
    "slope": (0, 1000),
    "bias": (-1, 1),
    "strength": (0, math.inf),
    "decay": (0, 1),
    "average_from": (0, math.inf),
    "gamma": (0, math.inf),
    "l1": (0, math.inf),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Raises InputError, naming the key, where an option's value is none of those that it may take."""
    for key, value in options.items():
        if value is None and key in COMMON:
            continue
        if key in WORDS and value not in WORDS[key]:
            raise InputError(f"method.{key} '{value}' is unknown; there are: {', '.join(WORDS[key])}")
        if key in FLAGS and not isinstance(value, bool):
            raise InputError(f"method.{key} = {value} should be true or false")
        if key in NUMBERS:
            least, most = NUMBERS[key]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                bound = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
                raise InputError(f"method.{key} = {value} should be a number {bound}")
    if options.get("natural_share", 0) + options.get("robust_share", 0) > 1:
        raise InputError("method.natural_share and method.robust_share should not exceed 1 together; the label gets the rest")
    if "from" in options and not isinstance(options["from"], str):
        raise InputError("method.from is not given; the check.json of a data check is needed, method.from=PATH")
