"""Auto-PGD: PGD that adapts its step length to the course of the loss, so there is none to choose."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ro_fast.attacks import engines
from ro_fast.attacks.active_set import State, in_one_batch, like_rows
from ro_fast.attacks.answer import Output
from ro_fast.attacks.any_step import draw_noise, radii
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.box import Box, Budget, box_of
from ro_fast.attacks.pgd import PGD
from ro_fast.ops import dlr_loss, margin_loss, weighted_cross_entropy

_log = logging.getLogger("ro_fast")
_MOMENTUM = 0.75  # share of the new step; the rest repeats the last one

RowLoss = Callable[[Tensor, Tensor, Any], Tensor]  # logits, y, target classes or None -> loss [N]


@dataclass
class APGD:
    """Auto-PGD: starts with momentum and step length 2ε, and halves the step length of each sample whose loss stalls.

    ``z = Π(x_k + η·d(∇ℓ))``, ``x_{k+1} = Π(x_k + ¾·(z − x_k) + ¼·(x_k − x_{k−1}))``. At checkpoints, η is halved and the climb
    continues from the best point so far if the loss rose in at most ``rho`` of the steps since the last checkpoint, or if neither
    η nor the best loss has changed since then.

    Args:
        eps: radius in input units (8/255, not 8); in L∞ also one per channel.
        steps: gradient steps of each restart.
        norm: "linf" or "l2".
        restarts: random starts (per target class).
        loss: "ce", "margin", "dlr", or "dlr_targeted" (APGD-T), which targets the ``targets`` most likely wrong classes one
            after another. "dlr" is undefined below 3 classes and is replaced by the margin; "dlr_targeted" is undefined below 4
            and is replaced by the margin to the target class. Either replacement is logged.
        targets: number of classes that "dlr_targeted" targets; with fewer wrong classes, all of them.
        rho: see above.
        generator: draws the noise, on the device of the inputs; None uses torch's global one.
        lo, hi, output: as for :class:`~ro_fast.attacks.PGD`.

    Raises:
        ValueError: on an invalid budget or option.

    Called on a batch, it returns for each sample the first misclassified point, or else that of greatest loss, and never
    synchronises with the device. :func:`ro_fast.attacks.cascade` runs it on surviving samples only. Source: Croce & Hein 2020
    (arXiv 2003.01690); the checkpoints, and "at most" where the paper has "fewer than", follow their code.

    >>> x, y = torch.rand(5, 2), torch.zeros(5, dtype=torch.int64)
    >>> x_adv = APGD(eps=0.1, steps=10)(torch.nn.Linear(2, 2), x, y)
    >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
    True
    """

    eps: Budget = 8 / 255
    steps: int = 100
    norm: str = "linf"
    restarts: int = 1
    loss: str = "ce"
    targets: int = 9
    rho: float = 0.75
    generator: torch.Generator | None = None
    lo: Budget = 0.0
    hi: Budget = 1.0
    output: Output = None

    def __post_init__(self) -> None:
        self.ball()
        for name, value in (("steps", self.steps), ("restarts", self.restarts), ("targets", self.targets)):
            if value < 1:
                raise ValueError(f"APGD: {name} = {value}; at least 1 is needed")
        if self.loss not in LOSSES:
            raise ValueError(f"APGD: loss '{self.loss}' is unknown; available: {', '.join(LOSSES)}")
        if not 0 < self.rho < 1:
            raise ValueError(f"APGD: rho = {self.rho:g} should lie between 0 and 1")

    def ball(self) -> tuple[Box, float]:
        """The ball and range to which adversarial inputs are confined, and the radius in its units."""
        box, eps, _ = box_of("APGD", self.norm, self.eps, self.eps, self.lo, self.hi)
        return box, eps

    def __call__(
        self,
        model: Callable[[Tensor], Any],  # [N, ...] in [lo, hi] -> logits [N, C], or what holds them
        x: Tensor,  # [N, ...] in [lo, hi]
        y: Tensor,  # int64 [N]
        *,
        noise: Tensor | None = None,  # [passes, N, ...]: uniform(−1, 1) for L∞, normal for L2
    ) -> Tensor:
        """Attacks ``model`` at ``x``, in eval mode, and returns the adversarial inputs, [N, ...]."""
        x = self.ball()[0].check("APGD", x)
        if not len(x):
            return x
        with borrowed(model, "eval"), torch.no_grad():
            return in_one_batch(AutoClimb(model, x, self, self.generator), x, y, noise)


class AutoClimb:
    """Auto-PGD as steps on a changing set of samples; the model is in eval mode."""

    def __init__(self, model: Callable[[Tensor], Any], x: Tensor, attack: APGD, generator: torch.Generator | None) -> None:
        self.attack, self.generator = attack, generator
        self._logits = self._losses = x.new_empty(0)
        self._target: Tensor | None = None
        self.box, self._eps = attack.ball()
        plan = PGD(output=attack.output).plan(model)
        self.logits, self._gradient = engines.stepwise(model, x, plan).functions(model, x, plan, self._noting)
        classes = self.logits(x[:1]).shape[1]
        self._loss = _defined(attack.loss, classes)
        self._targeted = attack.loss == "dlr_targeted"
        self.passes = attack.restarts * (min(attack.targets, classes - 1) if self._targeted else 1)
        self.length = attack.steps + 1
        due = dict(checkpoints(attack.steps))
        # Per step: the number of steps since the last checkpoint, or 0 if the step is not a checkpoint.
        self._due = torch.tensor([due.get(step, 0) for step in range(self.length)], device=x.device)

    def _noting(self, logits: Tensor, y: Tensor) -> Tensor:
        """The total loss; also stores logits and losses, which the gradient's forward pass has computed anyway."""
        losses = self._loss(logits, y, self._target)
        self._logits, self._losses = logits.detach(), losses.detach()
        return losses.sum()

    def noise(self, x: Tensor) -> Tensor:
        """Uniform for L∞, normal for L2."""
        return draw_noise(x, self.attack.norm, self.generator)

    def start(self, index: Tensor, x: Tensor, y: Tensor, noise: Tensor | None, turn: int) -> State:
        """A random point of the ball; for a targeted attack, also the target class."""
        assert noise is not None
        x = self.box.check("APGD", x)
        eps = radii(self._eps, x)
        x_adv = self.box.start(x, eps, noise)
        never = torch.full_like(eps, -torch.inf)
        state = {
            "index": index, "step": torch.zeros_like(index), "x": x, "x_adv": x_adv, "y": y, "eps": eps,
            "before": x_adv.clone(), "x_best": x_adv.clone(), "grad_best": torch.zeros_like(x), "best_loss": never,
            "length": 2 * eps, "loss": -never, "rises": torch.zeros_like(index),
            "best_at_check": never.clone(), "halved": torch.ones_like(index, dtype=torch.bool),
        }  # fmt: skip
        if self._targeted:
            order = self.logits(x).scatter(1, y[:, None], torch.inf).argsort(1, descending=True)
            state["target"] = order[:, 1 + turn // self.attack.restarts]
        return state

    def step(self, state: State) -> Tensor:
        """Judges the current iterates, checks the course of the loss, and takes a step."""
        self._target = state.get("target")
        x, x_adv = state["x"], state["x_adv"]
        grad = self._gradient(x_adv, state["y"])
        loss = self._losses.to(state["best_loss"].dtype)
        state["rises"] += loss > state["loss"]
        better = loss > state["best_loss"]
        state["loss"], state["best_loss"] = loss, torch.where(better, loss, state["best_loss"])
        for name, new in (("x_best", x_adv), ("grad_best", grad)):
            state[name] = torch.where(like_rows(better, x), new, state[name])
        halve = like_rows(self._check(state), x)
        x_adv, grad = torch.where(halve, state["x_best"], x_adv), torch.where(halve, state["grad_best"], grad)
        state["before"], state["x_adv"] = x_adv, self._move(state, x_adv, grad)
        return self._logits.argmax(1) != state["y"]

    def _check(self, state: State) -> Tensor:
        """Halves the step lengths that are due and returns for which samples, bool [B]."""
        since = self._due[state["step"].clamp(max=self.length - 1)]
        due = since > 0
        stuck = ~state["halved"] & (state["best_loss"] <= state["best_at_check"])
        halve = due & ((state["rises"] <= self.attack.rho * since) | stuck)
        state["length"] = torch.where(halve, state["length"] / 2, state["length"])
        state["halved"] = torch.where(due, halve, state["halved"])
        state["best_at_check"] = torch.where(due, state["best_loss"], state["best_at_check"])
        state["rises"] = torch.where(due, 0, state["rises"])
        return halve

    def _move(self, state: State, x_adv: Tensor, grad: Tensor) -> Tensor:
        """The step with momentum, from x_adv; the first step has none."""
        x, eps = state["x"], state["eps"]
        z = self.box.step(x_adv, x, grad, eps, state["length"])
        share = like_rows(torch.where(state["step"] == 0, 1.0, _MOMENTUM).to(x.dtype), x)
        move = torch.lerp(x_adv - state["before"], z - x_adv, share)
        if self.box.norm == "linf":
            return self.box.clamp(x_adv + move, x, eps)
        # A step along d of d's own length gives the operator's projection of x_adv + d.
        return self.box.step(x_adv, x, move, eps, move.flatten(1).norm(dim=1))


def checkpoints(steps: int) -> list[tuple[int, int]]:
    """The steps at which step lengths are checked, each with the number of steps since the last: 22 %, then fewer, at least 6 %.

    >>> checkpoints(100)[:4]
    [(22, 22), (41, 19), (57, 16), (70, 13)]
    """
    every, fewer, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], every
    while at <= steps:
        found.append((at, every))
        every = max(every - fewer, least)
        at += every
    return found


def _cross_entropy(logits: Tensor, y: Tensor, target: Any) -> Tensor:
    return weighted_cross_entropy(logits, y, reduction="none")


def _margin(logits: Tensor, y: Tensor, target: Any) -> Tensor:
    return margin_loss(logits, y, reduction="none")


def _margin_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def _ratio(logits: Tensor, y: Tensor, target: Any) -> Tensor:
    return dlr_loss(logits, y, reduction="none")


def _ratio_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    return dlr_loss(logits, y, target, reduction="none")


LOSSES: dict[str, RowLoss] = {"ce": _cross_entropy, "margin": _margin, "dlr": _ratio, "dlr_targeted": _ratio_to}


def _defined(loss: str, classes: int) -> RowLoss:
    """The loss, or the margin if there are too few classes to define it."""
    instead = {"dlr": (3, _margin), "dlr_targeted": (4, _margin_to)}
    if loss in instead and classes < instead[loss][0]:
        least, margin = instead[loss]
        _log.info("APGD: loss %s needs %d classes but the model has %d; the margin is used instead", loss, least, classes)
        return margin
    return LOSSES[loss]
