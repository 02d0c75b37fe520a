"""The values that methods' options may take, by name: an option means the same in every method that has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ro_fast.errors import InputError

WORDS: dict[str, tuple[str, ...]] = {
    "masks": ("moving", "frozen"),
    "denominator": ("all", "kept"),
    "lr": ("as_is", "matched"),
    "direction": ("below", "above"),
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
}


def check_options(options: Mapping[str, Any]) -> None:
    """Raises InputError, naming the key, where an option's value is none of those that it may take."""
    for key, value in options.items():
        if key in WORDS and value not in WORDS[key]:
            raise InputError(f"method.{key} '{value}' is unknown; there are: {', '.join(WORDS[key])}")
        if key in FLAGS and not isinstance(value, bool):
            raise InputError(f"method.{key} = {value} should be true or false")
        if key in NUMBERS:
            least, most = NUMBERS[key]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                bound = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
                raise InputError(f"method.{key} = {value} should be a number {bound}")
