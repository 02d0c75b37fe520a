"""One training step as a method sees it: the batch, the attack, the objective, and the work the step took."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.config import SmallLossConfig
from ro_fast.features.reader import PENULTIMATE, FeatureReader
from ro_fast.methods.batch_norm import have_momentum, running_statistics_held, statistics_moved_twice
from ro_fast.methods.objective import AT, Objective
from ro_fast.methods.weight_perturbation import WeightPerturbation
from ro_fast.ops import weighted_cross_entropy


@dataclass
class Work:
    """Samples passed through the network, by kind of pass; a pass costs 1, 2 or 3 forwards."""

    forward: int = 0  # forward only: F
    input_grad: int = 0  # forward and input gradient: 2F
    full: int = 0  # forward, input and weight gradients: 3F

    @property
    def forwards(self) -> int:
        """The work in units of one sample's forward pass."""
        return self.forward + 2 * self.input_grad + 3 * self.full


@dataclass(frozen=True)
class Decision:
    """The model's output on the adversarial batch of the plain attack, on which methods decide and the trainer reports."""

    logits: Tensor  # [N, C]; with a graph only if the step trains on them
    loss: Tensor  # [N] adversarial cross-entropy, detached
    small: Tensor  # bool [N]


@dataclass(frozen=True)
class Remembered:
    """The state of a batch's samples at the fork."""

    small: Tensor  # bool [N]
    perturbation: Tensor  # [N, ...], augmented as the inputs are


@dataclass
class Kept:
    """What a method keeps from one step to the next, and what it was given before the first."""

    samples: int  # training images
    classes: int
    state: dict[str, Tensor] = field(default_factory=dict)  # the method's own, part of the run's checkpoint
    teachers: dict[str, nn.Module] = field(default_factory=dict)  # "natural", "robust": see ro_fast.methods.teachers_of
    weight: Tensor | None = None  # [samples], computed before training

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Restores the method's own state; raises TypeError if it isn't one of these samples."""
        for name, values in state.items():
            if values.shape not in ((self.samples,), (self.samples, self.classes)):
                raise TypeError(f"{name} is not that of {self.samples} samples")
        self.state = {name: values.to(device) for name, values in state.items()}


class Step:
    """Everything a method may use in one training step."""

    def __init__(
        self,
        model: nn.Module,
        attack: PGD,
        x: Tensor,  # [N, ...] natural inputs in [0, 1], augmented
        y: Tensor,  # int64 [N]
        small_loss: SmallLossConfig,
        work: Work,
        *,
        index: Tensor | None = None,  # int64 [N], positions in the training images
        objective: Objective = AT,
        generator: torch.Generator | None = None,  # used for a method's random choices
        remembered: Remembered | None = None,  # for methods that need it: see ro_fast.methods.remembers
        kept: Kept | None = None,
        weights: WeightPerturbation | None = None,  # perturbs the weights before the step's first training forward
    ) -> None:
        # The forward after the attack's last step sees the same as the training forward, so one can serve for both.
        joins = attack.final_forward and attack.restarts == 1 and attack.bn == "train" and have_momentum(model)
        self._joins = joins and objective.forwards == 1
        self.model, self.x, self.y, self.index = model, x, y, index
        self.target = y  # int64 [N] or probabilities [N, C]: attacked and learnt; differs from y if inputs are mixed
        self.attack = dataclasses.replace(attack, final_forward=False) if self._joins else attack
        self.objective, self.generator, self.remembered = objective, generator, remembered
        self.kept, self.weights = kept or Kept(len(x), 0), weights
        self.lr_scale = 1.0  # a method may set it: the step's learning rate is the schedule's times this value
        self._small_loss, self._work = small_loss, work
        self.x_adv = x  # [N, ...] the adversarial batch, once the method's attack has created it
        self.right: Tensor | None = None  # [N] attack iterates still classified correctly, if it counts them
        self.decision: Decision | None = None
        # The released code of TRADES and MART runs the natural forward first; with perturbed weights (AWP) it comes second.
        self._natural_first = objective.released and weights is None
        self._natural: Tensor | None = None  # logits [N, C] of the step's natural inputs, if they came first

    def attacked(self, x: Tensor, y: Tensor, eps: float | None = None) -> Tensor:
        """Adversarial inputs for any samples, at the attack's radius or at ``eps``."""
        self.count_attack(len(x))
        return self.objective.attack(self.attack, self.model, x, y, eps)

    def count_attack(self, n: int) -> None:
        """Counts the work of the plain attack on n samples."""
        self._work.input_grad += n * self.attack.steps * self.attack.restarts
        if self.attack.restarts > 1 or self.attack.final_forward:
            self._work.forward += n * self.attack.restarts
        self._work.forward += n * self.objective.attack_forwards

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C] to train on."""
        self._before_training(x)
        return self.model(x)

    def decide_with_features(self) -> tuple[Decision, Tensor]:
        """:meth:`decide` on logits that the step trains on, with the penultimate features [N, D] that produce them."""
        self._before_training(self.x_adv)
        with statistics_moved_twice(self.model) if self._joins else contextlib.nullcontext():
            logits, features = FeatureReader(self.model, [PENULTIMATE], detach=False)(self.x_adv)
        return self._decided(logits), features[PENULTIMATE]

    def look(self, x: Tensor) -> Tensor:
        """Penultimate features [N, D] in training mode, without a graph; leaves no trace."""
        self._work.forward += len(x)
        with torch.no_grad(), running_statistics_held(self.model):
            return FeatureReader(self.model, [PENULTIMATE])(x)[1][PENULTIMATE]

    def asked(self, teacher: str, x: Tensor) -> Tensor:
        """A teacher's logits [N, C]; counted as a forward of the model, since teachers have its architecture."""
        self._work.forward += len(x)
        with torch.no_grad():
            return self.kept.teachers[teacher](x)

    def count_training(self, n: int) -> None:
        """Counts n samples whose forward and backward serve something other than the step's own loss."""
        self._work.full += n

    def _before_training(self, x: Tensor) -> None:
        self._work.full += len(x)
        if self.weights is not None and not self.weights.applied:
            self.weights.apply(self.model, lambda of_small: self._perturbed_loss(x, of_small))

    def _perturbed_loss(self, x: Tensor, of_small: bool) -> Tensor:
        """The objective's loss on the inputs about to be trained on, for all or only the small-loss samples."""
        self.count_training(len(x) * self.objective.forwards)
        logits = self.model(x)
        natural = self.model(self.x) if self.objective.forwards > 1 else None
        weight = self.small(logits)[1].to(torch.promote_types(logits.dtype, torch.float32)) if of_small else None
        return self.objective.loss(logits, natural, self.target, weight)

    def decide(self, trains: bool) -> Decision:
        """Evaluates the adversarial batch; ``trains`` says whether the step's loss is computed from these logits.

        If not, the forward neither builds a graph nor updates BatchNorm's running statistics: it uses the same
        batch statistics, and leaves no trace.
        """
        if trains:
            if self._natural_first:
                self._natural = self.forward(self.x)
            with statistics_moved_twice(self.model) if self._joins else contextlib.nullcontext():
                logits = self.forward(self.x_adv)
        else:
            logits = self._looked_at(self.x_adv, self._joins)
        return self._decided(logits)

    def _decided(self, logits: Tensor) -> Decision:
        loss = weighted_cross_entropy(logits.detach(), self.target, reduction="none")
        self.decision = Decision(logits, loss, small_loss_mask(loss, logits.shape[1], self._small_loss))
        return self.decision

    def is_small(self, x_adv: Tensor) -> Tensor:
        """Which samples of another adversarial batch with these labels have a small loss, bool [N]; leaves no trace."""
        logits = self._looked_at(x_adv, False)
        loss = weighted_cross_entropy(logits, self.target, reduction="none")
        return small_loss_mask(loss, logits.shape[1], self._small_loss)

    def loss(
        self,
        x_adv: Tensor,  # [N, ...] what to train on
        *,
        x: Tensor | None = None,  # [N, ...] natural inputs, if the objective needs them; None: the step's
        logits: Tensor | None = None,  # [N, C] of x_adv, if known
        weight: Tensor | None = None,  # [N]
        target: Tensor | None = None,  # int64 [N] or probabilities [N, C]; None: the step's
        reduction: str = "mean",
    ) -> Tensor:
        """The objective's loss on a batch: the mean over samples, weighted, or another reduction."""
        inputs = self.x if x is None else x
        natural, self._natural = self._natural if x is None else None, None
        if natural is None and self._natural_first and logits is None:
            natural = self.forward(inputs)
        if logits is None:
            logits = self.forward(x_adv)
        if natural is None and self.objective.forwards > 1:
            natural = self.forward(inputs)
        if self.objective.repeats_natural:
            self._work.forward += len(inputs)
            with torch.no_grad():
                self.model(inputs)
        return self.objective.loss(logits, natural, self.target if target is None else target, weight, reduction)

    def among(self, index: Tensor) -> Step:
        """Takes a step on some of the samples, for their losses; its work is counted here."""
        x, y = self.x[index], self.y[index]
        shared = {"objective": self.objective, "kept": self.kept, "weights": self.weights}
        some = Step(self.model, self.attack, x, y, self._small_loss, self._work, **shared)  # type: ignore[arg-type]
        some.target = self.target[index]
        return some

    def small(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [N] of logits [N, C] with their graph, and which of them count as small, bool [N]."""
        loss = weighted_cross_entropy(logits, self.target, reduction="none")
        return loss, small_loss_mask(loss.detach(), logits.shape[1], self._small_loss)

    def threshold(self, decision: Decision) -> float | Tensor:
        """The loss, in nats, below which the decision counts a sample as small."""
        return _threshold(decision.loss, decision.logits.shape[1], self._small_loss)

    def _looked_at(self, x: Tensor, moves_statistics: bool) -> Tensor:
        self._work.forward += len(x)
        with torch.no_grad(), contextlib.nullcontext() if moves_statistics else running_statistics_held(self.model):
            return self.model(x)


def small_loss_mask(loss: Tensor, num_classes: int, small_loss: SmallLossConfig) -> Tensor:
    """Which samples have a small adversarial loss: bool [N] from loss [N].

    "loss": ``ℓ < value`` (the paper's 1.5); "ln_c": ``ℓ < value·ln C``; "quantile": ``ℓ`` at most the batch's ``value``-quantile.
    """
    threshold = _threshold(loss, num_classes, small_loss)
    return loss <= threshold if small_loss.unit == "quantile" else loss < threshold


def _threshold(loss: Tensor, num_classes: int, small_loss: SmallLossConfig) -> float | Tensor:
    if small_loss.unit == "quantile":
        return torch.quantile(loss, small_loss.value)
    return small_loss.value * (math.log(num_classes) if small_loss.unit == "ln_c" else 1.0)
