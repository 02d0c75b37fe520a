"""The meaning and allowed values of methods' options: an option means the same in every method that has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ro_fast.config_values import told
from ro_fast.errors import InputError
from ro_fast.methods import inputs, objective, weight_perturbation

Options = dict[str, Any]  # a method's, as in its YAML: its name and its options' values
AVERAGING = ("averaging", "decay", "average_from")  # ro_fast/training/averaging.py
# Options of every method; each defaults to None, except the objective.
COMMON = (*objective.OPTIONS, *inputs.OPTIONS, *AVERAGING, *weight_perturbation.OPTIONS, "l1")


@dataclass(frozen=True)
class Option:
    """One option: its meaning and its allowed values: one of a few words, true or false, or a number within bounds."""

    about: str
    words: tuple[str, ...] = ()
    flag: bool = False
    bounds: tuple[float, float] | None = None


_ANY, _SHARE = (0, 1e6), (0, 1)
OPTIONS: dict[str, Option] = {
    "start_epoch": Option("first epoch of the method; before it, the baseline of the same objective runs"),
    "objective": Option("at | trades | mart: as in the papers | trades2019 | mart2020: as in their released code"),
    "beta": Option("weight of the divergence: 6 in TRADES, 5 in MART, as published", bounds=_ANY),
    "inputs": Option("null | mixup | cutmix | cutout | idbh: how images are transformed before the attack"),
    "inputs_strength": Option("mixup, cutmix: alpha; cutout, idbh: share of the side; null: as published, 1.4, 1, 14/32, 11/32"),
    "averaging": Option(
        "null | ema | swa: score weights averaged over steps, or over epochs, instead", words=("ema", "swa")
    ),
    "decay": Option("of ema, per step; null: 0.995", bounds=_SHARE),
    "average_from": Option("epoch from which weights are averaged; null: the start epoch", bounds=_ANY),
    "weight_perturbation": Option("null | awp | mlcat: take the gradient at adversarially perturbed weights"),
    "gamma": Option("size of that perturbation relative to the weights' norm; null: as published, 0.01", bounds=_ANY),
    "l1": Option(
        "weight of the sum of |w| in the loss, over weight matrices and kernels; 5e-6 in Rice et al. 2020", bounds=_ANY
    ),
    "masks": Option(
        "moving: each step's small-loss samples | frozen: the start epoch's | transformed: those not small-loss then",
        words=("moving", "frozen", "transformed"),
    ),
    "denominator": Option(
        "all: divide the loss by the batch size, as published | kept: by the samples kept", words=("all", "kept")
    ),
    "count": Option("small | large: as many samples as have a small, or a large, loss", words=("small", "large")),
    "removed_in_batchnorm": Option("whether removed samples pass through the training forward, as published", flag=True),
    "lr": Option("as_is | matched: undo the denominator's effect on the length of a step", words=("as_is", "matched")),
    "detach": Option("false: as released; the scaled loss then has no gradient, which amounts to removal", flag=True),
    "eps_ratio": Option("budget on small-loss samples over eps", bounds=_ANY),
    "direction": Option(
        "below | above: rounds stop when the share of small-loss samples is below, or above, share", words=("below", "above")
    ),
    "share": Option("share of small-loss samples in the batch at which rounds stop", bounds=_SHARE),
    "rounds": Option("maximum number of AugMix rounds", bounds=(1, 100)),
    "severity": Option("of AugMix, 1 to 10", bounds=(1, 10)),
    "width": Option("chains of AugMix", bounds=(1, 10)),
    "depth": Option("operations per chain; 0: one to three at random", bounds=(0, 10)),
    "smoothing": Option("share of the label that is spread over all classes", bounds=_SHARE),
    "momentum": Option("of the soft labels, per epoch", bounds=_SHARE),
    "natural_share": Option("weight of the natural teacher", bounds=_SHARE),
    "robust_share": Option("weight of the robust teacher; the label gets the rest", bounds=_SHARE),
    "temperature": Option("of the teachers' outputs", bounds=(0.01, 1000)),
    "offset": Option("lambda in the weight (1 + tanh(lambda + 5(1 - 2 kappa/K)))/2", bounds=(-1000, 1000)),
    "slope": Option("gamma in the weight sigmoid(-gamma(margin - beta))", bounds=(0, 1000)),
    "bias": Option("beta in that weight", bounds=(-1, 1)),
    "strength": Option("weight of the regulariser in the loss", bounds=_ANY),
    "from": Option("auto: scores computed here | path of the check.json that ro-fast check wrote for the same data"),
}


def common_defaults() -> Options:
    """The options of every method besides its own; None is off."""
    return {"start_epoch": 0, **dict.fromkeys(COMMON), "objective": "at", "beta": 6.0}


def check_options(options: Mapping[str, Any]) -> None:
    """Raises InputError, naming the key, if an option's value is not allowed."""
    off = {key for key, default in common_defaults().items() if default is None}
    for key, value in options.items():
        if isinstance(value, (list, dict)):
            raise InputError(f"method.{key} = {told(value)} should be a single value")
        option = OPTIONS.get(key)
        if option is None or (value is None and key in off):
            continue
        if option.words and value not in option.words:
            raise InputError(f"method.{key} '{value}' is unknown; available: {', '.join(option.words)}")
        if option.flag and not isinstance(value, bool):
            raise InputError(f"method.{key} = {told(value)} should be true or false")
        if option.bounds is not None:
            least, most = option.bounds
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise InputError(f"method.{key} = {told(value)} should be a number from {least:g} to {most:g}")
    if options.get("natural_share", 0) + options.get("robust_share", 0) > 1:
        raise InputError("method.natural_share and method.robust_share should not exceed 1 together; the label gets the rest")
    if "from" in options and not isinstance(options["from"], str):
        raise InputError("method.from is not given; give the check.json of a data check, method.from=PATH")
