"""Projected gradient descent, the inner maximisation of adversarial training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks import engines
from ro_fast.attacks.answer import Output, logits_of
from ro_fast.attacks.borrow import MODES, borrowed
from ro_fast.attacks.box import Box, Budget, box_of
from ro_fast.attacks.steady import warn_once
from ro_fast.ops import dlr_loss, margin_loss, weighted_cross_entropy

ENGINES = ("auto", *engines.ENGINES)


@dataclass
class PGD:
    """PGD: ``x ← Π(x + α·d(∇ₓ ℓ(f(x), y)))``, repeated from a random start; the strongest of ``restarts`` is kept.

    ``d`` is the gradient's sign (L∞) or unit vector (L2); ``Π`` projects to the ε-ball around the natural input,
    then to [lo, hi]. Only input gradients are computed. The model is left as it was: the mode of every module, requires_grad
    and grad of every parameter, and its buffers, except that ``bn="train"`` updates BatchNorm's as a forward pass does.

    Args:
        eps, alpha: radius and step length in input units (8/255, not 8); in L∞ also one per channel.
        steps: gradient steps of each restart.
        norm: "linf" or "l2".
        restarts: random starts; with more than one, the result of greatest loss is kept for each sample.
        random_start: False starts at the natural input, True at random in the ball; a number at ``x`` plus normal noise of that
            standard deviation, not clipped, as in the released code of TRADES and MART (0.001).
        loss: the loss to climb: "ce", "margin", "dlr", or a function (logits [N, C], y) -> loss [N].
        bn: "eval", "train" or "keep": the mode of the whole model while it is attacked.
        engine: "auto", or one of ro_fast.attacks.engines: "eager", "mlp", "fused", "compiled", "captured"; :meth:`explain`
            reports which one "auto" picks and why. All take the same steps, up to rounding.
        generator: draws the noise, on the device of the inputs; None uses torch's global one.
        lo, hi: input range, one each for all channels or per channel; inputs beyond it by more than rounding are an error (only
            checked on a CPU: a GPU would have to synchronise). For normalised inputs pass the normalised ends, (0 − mean)/std and
            (1 − mean)/std, with eps/std and alpha/std; or attack :func:`ro_fast.attacks.normalised`.
        output: where the logits are in the model's return value, if it is not a tensor: a key or attribute, an index, or a
            function of it; None tries the usual places (:func:`ro_fast.attacks.answer.logits_of`).
        final_forward: also run the forward pass that chooses among restarts when there is just one, as published loops do;
            its only remaining effect is the BatchNorm update with bn="train".

    Raises:
        ValueError: on an invalid budget or option.

    Deterministic given the noise; never synchronises with the device. Source: Madry et al. 2018 (arXiv 1706.06083).

    >>> model = torch.nn.Linear(2, 2)
    >>> x, y = torch.rand(5, 2), torch.zeros(5, dtype=torch.int64)
    >>> x_adv = PGD(eps=0.1, alpha=0.05, steps=3)(model, x, y)
    >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
    True
    """

    eps: Budget = 8 / 255
    alpha: Budget = 2 / 255
    steps: int = 10
    norm: str = "linf"
    restarts: int = 1
    random_start: bool | float = True
    loss: str | Callable[[Tensor, Tensor], Tensor] = "ce"
    bn: str = "eval"
    engine: str = "auto"
    generator: torch.Generator | None = None
    final_forward: bool = False
    lo: Budget = 0.0
    hi: Budget = 1.0
    output: Output = None

    def __post_init__(self) -> None:
        self.ball()
        if self.steps < 0 or self.restarts < 1:
            raise ValueError(f"PGD: steps = {self.steps}, restarts = {self.restarts}; at least 0 and 1 are needed")
        if not self.random_start >= 0:
            raise ValueError(f"PGD: random_start = {self.random_start}; False, True, or a deviation above 0 is needed")
        for name, value, known in (("bn", self.bn, MODES), ("engine", self.engine, ENGINES)):
            if value not in known:
                raise ValueError(f"PGD: {name} '{value}' is unknown; available: {', '.join(known)}")
        if self.loss not in LOSSES and not callable(self.loss):
            losses = ", ".join(LOSSES)
            raise ValueError(f"PGD: loss '{self.loss}' is unknown; available: {losses}, or a function (logits, y) -> [N]")

    def __call__(
        self,
        model: Callable[[Tensor], Any],  # [N, ...] in [lo, hi] -> logits [N, C], or what holds them
        x: Tensor,  # [N, ...] in [lo, hi]
        y: Tensor,  # int64 [N], or probabilities [N, C]
        *,
        eps: float | Tensor | None = None,  # replaces the attack's radius: a number or [N]
        noise: Tensor | None = None,  # [N, ...], or [restarts, N, ...]: uniform(−1, 1) for L∞, else normal
        active: Tensor | None = None,  # bool [N]: the others come back natural
    ) -> Tensor:
        """Attacks ``model`` at ``x`` and returns the adversarial inputs, [N, ...].

        With ``eps`` given, the step length keeps its ratio to the radius, so any ball is crossed in the same number of steps.
        """
        if torch.is_inference_mode_enabled():
            raise ValueError("PGD: input gradients don't exist in torch.inference_mode(); use torch.no_grad() instead")
        box, own, length = self.ball()
        x = box.check("PGD", x)
        alpha: float | Tensor = length
        if eps is None:
            eps = own
        elif box.eps or box.alpha:
            raise ValueError("PGD: eps= in a call can't replace per-channel radii or step sizes; create another PGD")
        elif own > 0:
            alpha = eps * (length / own)
        best, best_loss = x, None
        with borrowed(model, self.bn):
            plan = self.plan(model, y)
            if not plan.training:
                warn_once(model, x, self.output)
            climb = engines.prepare(self.engine, model, x, plan)
            for restart in range(self.restarts):
                x_adv = climb(engines.Start(x, y, eps, alpha, self._noise(x, noise, restart), active))
                if self.restarts == 1:
                    if self.final_forward:
                        self._loss(model, x_adv, y)
                    return x_adv
                loss = self._loss(model, x_adv, y)
                if best_loss is None:
                    best, best_loss = x_adv, loss
                else:
                    better = loss > best_loss
                    best = torch.where(better.view(-1, *[1] * (x.dim() - 1)), x_adv, best)
                    best_loss = torch.where(better, loss, best_loss)
        return best

    def noise(self, x: Tensor) -> Tensor | None:
        """What a call draws for x, to be passed as its ``noise``: like x, or [restarts, N, ...]; None if it starts at x."""
        drawn = [one for restart in range(self.restarts) if (one := self._noise(x, None, restart)) is not None]
        return None if not drawn else drawn[0] if self.restarts == 1 else torch.stack(drawn)

    def explain(self, model: Callable[[Tensor], Any], x: Tensor) -> str:
        """Reports which engine attacks ``model`` at inputs like ``x``, and why each of the others does or doesn't."""
        with borrowed(model, self.bn):
            return engines.explain(self.engine, model, x, self.plan(model))

    def plan(self, model: Callable[[Tensor], Any], y: Tensor | None = None) -> engines.Plan:
        """What engines need to know about this attack on ``model`` in its current mode."""
        training = isinstance(model, nn.Module) and any(module.training for module in model.modules())
        hard = self.loss == "ce" and (y is None or y.dim() == 1)
        return engines.Plan(_total(self.loss), self.steps, training, hard, self.ball()[0], self.output, self.spread)

    @property
    def spread(self) -> float:
        """The standard deviation of a normal start; 0 for any other start."""
        return 0.0 if isinstance(self.random_start, bool) else float(self.random_start)

    def ball(self) -> tuple[Box, float, float]:
        """The ball and range to which adversarial inputs are confined, and the radius and step length in its units."""
        return box_of("PGD", self.norm, self.eps, self.alpha, self.lo, self.hi)

    @torch.no_grad()
    def _loss(self, model: Callable[[Tensor], Any], x_adv: Tensor, y: Tensor) -> Tensor:
        logits = logits_of(model(x_adv), self.output)
        return self.loss(logits, y) if callable(self.loss) else LOSSES[self.loss](logits, y, "none")

    def _noise(self, x: Tensor, noise: Tensor | None, restart: int) -> Tensor | None:
        if self.random_start is False or self.random_start == 0:
            return None
        if noise is not None:
            given = noise[restart] if noise.dim() == x.dim() + 1 else noise
            if given.shape != x.shape or (self.restarts > 1 and noise.dim() == x.dim()):
                raise ValueError(
                    f"PGD: noise has shape {list(noise.shape)}; {list(x.shape)} is needed, "
                    f"with a leading {self.restarts} for several restarts"
                )
            return given
        drawn = torch.empty_like(x)
        uniform = self.norm == "linf" and not self.spread
        return drawn.uniform_(-1, 1, generator=self.generator) if uniform else drawn.normal_(generator=self.generator)


def _cross_entropy(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return weighted_cross_entropy(logits, y, reduction=reduction)


def _margin(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return margin_loss(logits, y, reduction=reduction)


def _ratio(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return dlr_loss(logits, y, reduction=reduction)


LOSSES = {"ce": _cross_entropy, "margin": _margin, "dlr": _ratio}


@functools.lru_cache(maxsize=16)  # one function per loss, by which engines recognise a graph; a loss may hold a batch
def _total(loss: str | Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The sum over samples, so that each sample's gradient is its own, whatever the batch."""
    if callable(loss):
        return lambda logits, y: loss(logits, y).sum()
    return functools.partial(LOSSES[loss], reduction="sum")
