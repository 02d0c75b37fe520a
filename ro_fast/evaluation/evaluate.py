"""Trustworthy evaluation: natural, PGD, CW and a cascade of attacks on any model, with intervals and reasons for doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.answer import Output, answering
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.box import ROUNDING
from ro_fast.attacks.cascade import Attack, Stage, cascade, standard_attacks
from ro_fast.attacks.masking import black_box_found, gradient_masking
from ro_fast.attacks.pgd import PGD
from ro_fast.errors import InputError
from ro_fast.evaluation.levels import Settings
from ro_fast.said import Said
from ro_fast.storage import records

PROBED = 256  # samples used by the probes for gradient masking
NOTE = Said(
    "evaluation.note",
    "Robust: correct on the natural input and at every iterate. The cascade runs APGD-CE, APGD-T and Square on the survivors of "
    "PGD and CW; AutoAttack also includes FAB, so this is not AutoAttack and may leave more samples.",
)
NOTE_L2 = Said(
    "evaluation.note_l2",
    "Robust: correct on the natural input and at every iterate. The cascade runs APGD-CE and APGD-T on the survivors of PGD and "
    "CW; AutoAttack also includes FAB and Square, so this is not AutoAttack and may leave more samples.",
)


@dataclass(frozen=True)
class Result:
    """Samples that withstood one attack and those before it."""

    acc: float  # correct, as a fraction of all samples
    ci95: tuple[float, float]  # Wilson's interval of that fraction, over draws of samples
    tried: int  # samples the attack was run on
    broken: int
    seconds: float


@dataclass(frozen=True)
class OfClass:
    """One class's samples: accuracies as fractions, robust under every attack; ``ci95`` is Wilson's interval of the latter."""

    label: int
    samples: int
    natural_acc: float
    robust_acc: float
    ci95: tuple[float, float]
    name: str | None = None  # if known


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate_model` found."""

    robust_acc: float  # samples that withstood every attack
    samples: int
    eps: float
    norm: str
    seed: int
    natural: Result
    pgd: Result
    cw: Result
    cascade: dict[str, Result]  # in order; the last is what withstood all
    warnings: list[str]
    settings: Settings
    note: str
    by_class: list[OfClass] = field(default_factory=list)  # the least robust first

    def as_json(self) -> Any:
        """Converts to plain dictionaries, lists and numbers."""
        return records.as_json(self)


@dataclass
class Hooks:
    """Earlier results, and listeners for new ones."""

    known: Mapping[str, Stage] = field(default_factory=dict)
    on_stage: Callable[[Stage], None] | None = None  # after each attack
    on_progress: Callable[[str, int, int], None] | None = None  # attack, pass, samples settled by the pass


def evaluate_model(
    model: Callable[[Tensor], Any],  # [B, ...] in [0, 1] -> logits [B, C], or what holds them
    x: Tensor,  # [N, ...], float in [0, 1], or uint8
    y: Tensor,  # int64 [N]
    eps: float,
    *,
    norm: str = "linf",
    output: Output = None,
    settings: Settings | None = None,
    hooks: Hooks | None = None,
) -> Evaluation:
    """Evaluates any torch model: natural accuracy, PGD, PGD on the CW margin, and a cascade of APGD-CE, APGD-T and Square.

    Args:
        model: a module, attacked in eval mode and left as it was, or a function. Inputs are moved to the module's device
            batch by batch. It should return logits; probabilities are attacked too, with a warning.
        x, y: samples and their classes, on any device.
        eps: radius in input units (8/255, not 8).
        norm: "linf" or "l2"; Square is not run in L2.
        output: where the logits are in the model's return value, if it is not a tensor: a key or attribute, an index, or a
            function of it; None tries the usual places (:func:`ro_fast.attacks.answer.logits_of`).
        settings: how hard to try.
        hooks: known results, and listeners.

    Returns:
        Accuracies as fractions with Wilson's 95 % interval, seconds, and warnings if there is reason to doubt them: gradients
        seem to be masked, or the model is random or its outputs depend on the batch.

    Raises:
        InputError: if the model can't take the inputs or labels, outputs are not finite logits, or the budget
            doesn't fit.

    Deterministic given the seed, on one device and build.

    >>> _ = torch.manual_seed(0)
    >>> x, y = torch.rand(20, 4), torch.arange(20) % 3
    >>> found = evaluate_model(torch.nn.Linear(4, 3), x, y, 0.01, settings=Settings(queries=5))
    >>> found.robust_acc <= found.pgd.acc <= found.natural.acc
    True
    """
    settings, hooks = settings or Settings(), hooks or Hooks()
    attacks = attacks_of(eps, norm, settings)
    device = _device(model, x)
    y = y.to(device)
    inputs = _inputs(model, x, device)
    model = answering(model, output)
    _check(model, x, y, inputs)
    run = _Run(model, inputs, y, settings, hooks)
    first: dict[str, Stage] = {"natural": run.natural()}
    for name in ("pgd", "cw"):
        first[name] = run.after(first["natural"].robust, name, attacks[name])
    robust = first["pgd"].robust & first["cw"].robust
    stages = []
    for name in list(attacks)[2:]:
        stages.append(run.after(robust, name, attacks[name]))
        robust = stages[-1].robust
    return Evaluation(
        robust_acc=float(robust.double().mean()),
        samples=len(y),
        eps=eps,
        norm=norm,
        seed=settings.seed,
        **{name: _result(stage) for name, stage in first.items()},
        cascade={stage.name: _result(stage) for stage in stages},
        warnings=_warnings(model, inputs, y, eps, norm, settings, [first["natural"], *stages]),
        settings=settings,
        note=NOTE if norm == "linf" else NOTE_L2,
        by_class=_by_class(y, first["natural"].robust, robust),
    )


def attacks_of(eps: float, norm: str, s: Settings) -> dict[str, Attack]:
    """PGD, PGD on the CW margin and the cascade, in that order; raises InputError if the budget doesn't fit."""
    try:
        attacks: dict[str, Attack] = {
            "pgd": PGD(eps, eps / 4, s.steps, norm),
            "cw": PGD(eps, eps / 4, s.steps, norm, loss="margin"),
        }
        options = {"steps": s.apgd_steps, "restarts": s.restarts, "targets": s.targets, "queries": s.queries, "seed": s.seed}
        return attacks | standard_attacks(eps, norm, **options)
    except ValueError as error:
        raise InputError(str(error)) from error


def _device(model: Callable[[Tensor], Tensor], x: Tensor) -> torch.device:
    if not isinstance(model, nn.Module):
        return x.device
    return next((t.device for t in (*model.parameters(), *model.buffers())), x.device)


def _inputs(model: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Samples by index, on the model's device and in the memory order of its weights, which is faster."""
    weights = [p for p in model.parameters() if p.dim() == 4] if isinstance(model, nn.Module) and x.dim() == 4 else []
    last = any(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in weights)
    order = torch.channels_last if last else torch.contiguous_format

    def inputs(index: Tensor) -> Tensor:
        batch = x[index.to(x.device)].to(device)
        batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch
        return batch.contiguous(memory_format=order)

    return inputs


def _check(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, inputs: Callable[[Tensor], Tensor]) -> None:
    if len(x) != len(y) or y.dim() != 1 or not len(y):
        raise InputError(
            f"evaluate: x has shape {list(x.shape)} and y {list(y.shape)}; one label per sample and at least 1 sample are needed"
        )
    if y.dtype != torch.int64:
        raise InputError(f"evaluate: y is {y.dtype}; int64 classes are needed")
    if x.dtype != torch.uint8:
        if not x.is_floating_point():
            raise InputError(f"evaluate: x is {x.dtype}; float in [0, 1] or uint8 is needed")
        if not (x.min() >= -ROUNDING and x.max() <= 1 + ROUNDING):  # also catches NaN
            raise InputError(f"evaluate: x spans [{x.min():g}, {x.max():g}]; it must lie in [0, 1], before any normalisation")
    with borrowed(model, "eval"), torch.no_grad():
        try:
            logits = model(inputs(torch.arange(min(2, len(y)), device=y.device)))
        except TypeError as error:
            raise InputError(f"evaluate: {error}") from error
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"evaluate: the model can't take inputs {[len(x), *x.shape[1:]]} of {x.dtype}: {first}") from error
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise InputError(f"evaluate: the model returns {list(logits.shape)}; logits [N, C] of at least two classes are needed")
    if not logits.isfinite().all():
        raise InputError("evaluate: the model's logits hold NaN or infinity; its weights may be broken")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= logits.shape[1]:
        raise InputError(f"evaluate: labels span {low} to {high} but the model has {logits.shape[1]} classes")


@dataclass
class _Run:
    model: Callable[[Tensor], Tensor]
    inputs: Callable[[Tensor], Tensor]
    y: Tensor
    settings: Settings
    hooks: Hooks

    def natural(self) -> Stage:
        if "natural" in self.hooks.known:
            return self.hooks.known["natural"]
        (stage,) = cascade(self.model, self.inputs, self.y, {}, batch_size=self.settings.batch_size, on_stage=self.hooks.on_stage)
        return stage

    def after(self, robust: Tensor, name: str, attack: Attack) -> Stage:
        """The attack on those samples only."""
        if name in self.hooks.known:
            return self.hooks.known[name]
        return cascade(
            self.model,
            self.inputs,
            self.y,
            {name: attack},
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            done=[Stage("before", len(self.y), robust, 0, 0.0)],
            on_stage=self.hooks.on_stage,
            on_progress=self.hooks.on_progress,
        )[-1]


def _result(stage: Stage) -> Result:
    return Result(*_share(stage.robust), stage.tried, stage.broken, stage.seconds)


def _share(right: Tensor) -> tuple[float, tuple[float, float]]:
    """The fraction that is True, with Wilson's 95 % interval."""
    from scipy.stats import binomtest

    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, "wilson")
    return float(right.double().mean()), (float(low), float(high))


def _by_class(y: Tensor, natural: Tensor, robust: Tensor) -> list[OfClass]:
    found = []
    for label in y.unique().tolist():
        own = y == label
        found.append(OfClass(label, int(own.sum()), _share(natural[own])[0], *_share(robust[own])))
    return sorted(found, key=lambda one: one.robust_acc)


def _warnings(
    model: Callable[[Tensor], Tensor],
    inputs: Callable[[Tensor], Tensor],
    y: Tensor,
    eps: float,
    norm: str,
    settings: Settings,
    stages: list[Stage],
) -> list[str]:
    if not settings.masking:
        return []
    drawn = torch.randperm(len(y), generator=torch.Generator().manual_seed(settings.seed))[:PROBED].sort().values.to(y.device)
    found = gradient_masking(model, inputs(drawn), y[drawn], eps, norm=norm, seed=settings.seed)
    square = black_box_found(stages)
    return found if square is None else [*(w for w in found if not w.startswith("Square")), square]
