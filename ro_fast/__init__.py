"""ro_fast: will adversarial training overfit on these data, why, what helps, and at what cost."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public names and the module from which each is imported on first use, so that `import ro_fast` stays light.
_LAZY = {
    "PGD": "ro_fast.attacks",
    "train": "ro_fast.training.trainer",
    "evaluate_model": "ro_fast.evaluation.evaluate",
    "load_model": "ro_fast.evaluation.load",
    "ablate": "ro_fast.suite.run",
    "watch": "ro_fast.overfitting",
    "Watch": "ro_fast.overfitting",
    "InputError": "ro_fast.errors",
    "WorkError": "ro_fast.errors",
}
__all__ = ["__version__", "backends", *_LAZY]


def __getattr__(name: str) -> Any:
    if name == "backends":
        return importlib.import_module("ro_fast.ops.backends")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ro_fast' has no attribute {name!r}")
