"""Methods by name: what each training step does with its samples."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import keyword
from collections.abc import Callable

from torch import Tensor

from ro_fast.errors import InputError
from ro_fast.methods.attack_strength import attack_strength
from ro_fast.methods.augmentation import augmentation
from ro_fast.methods.baseline import baseline
from ro_fast.methods.distillation import distillation
from ro_fast.methods.feature_centres import feature_centres
from ro_fast.methods.inputs import MIXING, build_inputs
from ro_fast.methods.method import Method
from ro_fast.methods.natural import natural, no_attack
from ro_fast.methods.objective import OPTIONS as OBJECTIVE
from ro_fast.methods.objective import Objective, build_objective
from ro_fast.methods.options import COMMON, Options, check_options
from ro_fast.methods.perturbation import foreign_perturbation, frozen_perturbation, perturbation, random_perturbation
from ro_fast.methods.removal import data_and_perturbation, large_loss_removal, mlcat_loss_scaling, random_removal
from ro_fast.methods.reweighting import counting_attack, gairat, mail, reweight
from ro_fast.methods.soft_labels import label_smoothing, temporal_ensembling
from ro_fast.methods.step import Decision, Kept, Remembered, Step, small_loss_mask
from ro_fast.methods.weight_perturbation import WeightPerturbation, build_weight_perturbation

METHODS: dict[str, Method] = {
    loss.__name__: Method(loss)
    for loss in (
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
        label_smoothing,
        temporal_ensembling,
        distillation,
        mail,
        reweight,
        feature_centres,
    )
} | {"natural": Method(natural, no_attack), "gairat": Method(gairat, counting_attack)}
# What can't be combined: the method and the objectives, or the mixed labels, with which it makes no sense.
_OBJECTIVES_OF = {
    "mlcat_loss_scaling": ("at",),
    "natural": ("at",),
    "gairat": ("at", "mart"),
    "label_smoothing": ("at", "trades"),
    "temporal_ensembling": ("at", "trades"),
}
_CLASSES_ONLY = ("gairat", "mail", "temporal_ensembling", "feature_centres")

__all__ = [
    "METHODS",
    "Decision",
    "Kept",
    "Method",
    "Objective",
    "Options",
    "Remembered",
    "Step",
    "WeightPerturbation",
    "baseline_of",
    "build_method",
    "build_objective",
    "build_weight_perturbation",
    "remembers",
    "small_loss_mask",
    "teachers_of",
]


def build_method(options: Options) -> Method:
    """Returns the method named in ``options["name"]`` with its other options bound.

    If the options ask for it, the inputs are changed before the method runs, and ``l1·Σ|w|`` over weight matrices and kernels is
    added to its loss. "start_epoch" is left to the trainer; objective, averaging and weight perturbation to their builders.

    Raises:
        InputError: on an unknown name or option, with a list of the existing ones, and on what can't be combined.
    """
    check_options(options)
    name = options.get("name")
    if name not in METHODS:
        raise InputError(f"method '{name}' is unknown; available: {', '.join(METHODS)}")
    method = METHODS[name]
    known = [parameter.rstrip("_") for parameter in list(inspect.signature(method.loss).parameters)[1:]]
    given = {key: value for key, value in options.items() if key not in ("name", "start_epoch", *COMMON)}
    for key in given:
        if key not in known:
            raise InputError(f"method '{name}' has no option '{key}'; it has: {', '.join([*known, *COMMON])}")
    _check_combination(options)
    build_weight_perturbation(options)
    own = {f"{key}_" if keyword.iskeyword(key) else key: value for key, value in given.items()}
    loss, l1, inputs = functools.partial(method.loss, **own), options.get("l1") or 0.0, build_inputs(options)
    method = dataclasses.replace(method, loss=functools.partial(_with_l1, loss, l1) if l1 else loss)
    return method if inputs is None else dataclasses.replace(method, change_inputs=inputs)


def _with_l1(loss: Callable[[Step], Tensor], l1: float, step: Step) -> Tensor:
    weights = [p for name, p in step.model.named_parameters() if p.dim() > 1 and "weight" in name]
    return loss(step) + l1 * sum(p.abs().sum() for p in weights)


def _check_combination(options: Options) -> None:
    name, inputs = options["name"], options.get("inputs")
    objective, allowed = build_objective(options).name, _OBJECTIVES_OF.get(options["name"])
    if allowed is not None and objective not in allowed:
        raise InputError(f"method '{name}' can't be combined with {objective}: method.objective should be {' or '.join(allowed)}")
    if inputs in MIXING and (name in _CLASSES_ONLY or objective == "mart"):
        what = f"method '{name}'" if name in _CLASSES_ONLY else "objective mart"
        raise InputError(f"{what} needs one class per image, {inputs} mixes them: method.inputs should be cutout, idbh or null")
    if inputs is not None and name == "frozen_perturbation":
        raise InputError(f"method '{name}' applies an earlier perturbation to the unchanged image: method.inputs should be null")


def baseline_of(options: Options) -> Options:
    """The options of what runs before a method starts: the baseline with the same objective.

    Plain adversarial training has no options, so it is the same run whether or not its defaults are spelt out.

    >>> baseline_of({"name": "perturbation", "masks": "frozen", "objective": "trades", "start_epoch": 3})
    {'name': 'baseline', 'objective': 'trades'}
    >>> baseline_of({"name": "baseline", "objective": "at", "beta": 6.0})
    {'name': 'baseline'}
    """
    if options.get("objective", "at") == "at":
        return {"name": "baseline"}
    return {"name": "baseline", **{key: options[key] for key in OBJECTIVE if key in options}}


def remembers(options: Options) -> bool:
    """Whether a method needs the state of its samples at the fork."""
    return options.get("masks") in ("frozen", "transformed") or options.get("name") == "frozen_perturbation"


def teachers_of(options: Options) -> dict[str, Options]:
    """The teachers a method needs: name -> options of the method that trains it.

    >>> teachers_of({"name": "distillation", "objective": "trades"})
    {'natural': {'name': 'natural'}, 'robust': {'name': 'baseline', 'objective': 'trades'}}
    """
    return {"natural": {"name": "natural"}, "robust": baseline_of(options)} if options.get("name") == "distillation" else {}
