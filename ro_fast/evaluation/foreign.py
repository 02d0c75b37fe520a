"""Weights written by other projects, under the names of our networks.

Checkpoints come wrapped in dictionaries, with prefixes of enclosing modules, and with the names of the repository that
trained them. Names that map to the same network are renamed; the rest is reported with the nearest name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ro_fast.models import MODELS

Weights = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_ema", "ema", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "1.")  # the last is that of Sequential(normalisation, network)

# The names of Rice et al. 2020 and kuangliu's PreActResNet-18 with a BatchNorm before the classifier, and of TRADES' WRN.
_PREACT = (
    (r"conv1\.", "trunk.0."),
    (r"layer(\d)\.(\d+)\.shortcut\.0\.", r"trunk.\1.\2.shortcut."),
    (r"layer(\d)\.", r"trunk.\1."),
    (r"bn\.", "trunk.5."),
    (r"linear\.", "classifier."),
)
_WIDE = (
    (r"conv1\.", "trunk.0."),
    (r"block(\d)\.layer\.(\d+)\.convShortcut\.", r"trunk.\1.\2.shortcut."),
    (r"block(\d)\.layer\.", r"trunk.\1."),
    (r"bn1\.", "trunk.4."),
    (r"fc\.", "classifier."),
)
_STATISTICS = {"mean": "normalize.mean", "mu": "normalize.mean", "std": "normalize.std", "sigma": "normalize.std"}


def unwrapped(state: Any) -> Weights | None:
    """The weights within a checkpoint's dictionaries, without the prefixes common to all of them; None if there are none.

    >>> one = torch.zeros(1)
    >>> unwrapped({"epoch": 3, "state_dict": {"module.conv1.weight": one, "module.fc.bias": one}}).keys()
    dict_keys(['conv1.weight', 'fc.bias'])
    """
    for _ in WRAPPERS:
        inner = next((state[key] for key in WRAPPERS if isinstance(state, Mapping) and isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        return None
    weights = {str(key): value for key, value in state.items() if key != "n_averaged"}  # a counter of AveragedModel
    while (prefix := _prefix(weights)) is not None:
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _prefix(weights: Weights) -> str | None:
    """A prefix common to all names, except those of a normalisation."""
    rest = [name for name in weights if not _statistic(name)]
    return next((prefix for prefix in PREFIXES if rest and all(name.startswith(prefix) for name in rest)), None)


def _statistic(name: str) -> str | None:
    """Our name of a normalisation's mean or std; it may belong to any module in front of the network."""
    outer, _, last = name.rpartition(".")
    if last in _STATISTICS and (outer in ("", "0", "module") or "norm" in outer.lower()):
        return _STATISTICS[last]
    return None


def renamed(weights: Weights, needed: Mapping[str, Tensor]) -> Weights:
    """The weights under the required names, as far as they are known.

    A normalisation missing from the file is taken from ``needed``, as are BatchNorm's counters, on which nothing depends.
    """
    if set(weights) == set(needed):
        return weights
    rules = _WIDE if any(name.startswith("block1.layer.") for name in weights) else _PREACT
    found: Weights = {}
    for name, value in weights.items():
        ours = _statistic(name)
        if ours is not None:
            found[ours] = value.reshape(needed[ours].shape) if value.numel() == needed[ours].numel() else value
            continue
        if name not in needed:
            for pattern, target in rules:
                name, done = re.subn("^" + pattern, target, name)
                if done:
                    break
        found[name] = value
    optional = [name for name in needed if name.endswith("num_batches_tracked") or name in _STATISTICS.values()]
    return {name: needed[name].clone() for name in optional if name not in found} | found


def holds_normalisation(weights: Weights) -> bool:
    """Whether a file specifies how inputs are normalised."""
    return bool(normalisation(weights))


def normalisation(weights: Weights) -> dict[str, list[float]]:
    """How inputs are normalised, as far as a file specifies it: "mean" and "std", per channel or one for all.

    >>> normalisation({"normalize.mean": torch.zeros(1, 1, 1), "fc.bias": torch.zeros(3)})
    {'mean': [0.0]}
    """
    ours = {_statistic(name): value for name, value in weights.items()}
    return {name.removeprefix("normalize."): value.flatten().tolist() for name, value in ours.items() if name is not None}


def network_of(weights: Weights) -> str | None:
    """Which of our networks for images has these weights' names; None if none has."""
    channels = next((value.shape[1] for value in weights.values() if value.dim() == 4), 3)
    for name, build in MODELS.items():
        if name == "mlp":
            continue
        with torch.device("meta"):
            trunk, _ = build((channels, 32, 32), 1)
        needed = {f"trunk.{key}": value for key, value in trunk.state_dict().items()}
        one = torch.zeros(channels, 1, 1)
        needed |= {"classifier.weight": one, "classifier.bias": one, "normalize.mean": one, "normalize.std": one}
        if set(renamed(weights, needed)) == set(needed):
            return name
    return None


def misfit(weights: Weights, needed: Mapping[str, Tensor]) -> str | None:
    """Why weights don't fit a network, with the nearest name and the shapes; None if they fit."""
    missing = [name for name in needed if name not in weights]
    left = [name for name in weights if name not in needed]
    if missing or left:
        name, others = (missing[0], left or list(weights)) if missing else (left[0], list(needed))
        near = difflib.get_close_matches(name, others, 1, 0.0)
        shape = {**weights, **needed}[name].shape
        what = "there is no" if missing else "there is no use for"
        nearest = f"; nearest is {near[0]} {list({**needed, **weights}[near[0]].shape)}" if near else ""
        return f"{what} {name} {list(shape)}{nearest} ({len(missing)} names are missing, {len(left)} left over)"
    for name, value in needed.items():
        if value.shape != weights[name].shape:
            return f"{name} is {list(weights[name].shape)}, but {list(value.shape)} is needed"
    return None
