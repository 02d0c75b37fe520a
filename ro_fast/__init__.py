"""ro_fast: will adversarial training overfit on these data, why, what helps, and at what cost."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
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


_CLONE = Path(__file__).parent.resolve().parent


def _run_whole() -> None:
    """Makes `ro_fast` one package in a clone's root too, where Python finds the sources first.

    It is the installed one, as for `ro-fast`, because only that one is compiled; or, where nothing is installed or another clone
    is, this clone with its own configs, kernels and benchmarks, which lie beside this folder.
    """
    __path__.append(str(_CLONE))
    first, *others = sys.path
    if Path(first or os.getcwd()).resolve() != _CLONE:
        return  # found on purpose: a test, PYTHONPATH or an editable install
    spec = PathFinder.find_spec("ro_fast", others)
    if spec is not None and spec.loader is not None and not Path(str(spec.origin)).samefile(__file__):
        sys.modules["ro_fast"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["ro_fast"])


if (_CLONE / "pyproject.toml").exists():
    _run_whole()


def __getattr__(name: str) -> Any:
    if name == "backends":
        return importlib.import_module("ro_fast.ops.backends")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ro_fast' has no attribute {name!r}")
