"""Projected gradient descent, the inner maximisation of adversarial training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ro_fast.attacks import engines
from ro_fast.attacks.borrow import MODES, borrowed
from ro_fast.ops import _check, dlr_loss, margin_loss, weighted_cross_entropy

ENGINES = ("auto", *engines.ENGINES)
ROUNDING = 1e-5  # of the input range: so far may inputs lie beyond it


@dataclass
class PGD:
    """PGD: ``x ← Π(x + α·d(∇ₓ ℓ(f(x), y)))``, repeated, from a random start, the strongest of ``restarts`` kept.

    ``d`` is the gradient's sign (L∞) or its unit vector (L2) and ``Π`` projects to the ε-ball around the natural input,
    then to [lo, hi]. Only input gradients are computed. The model comes back as it was: mode of every module, requires_grad
    and grad of every parameter, and its buffers, except that ``bn="train"`` leaves BatchNorm's as a forward does.

    Args:
        eps, alpha: radius and step length in input units (8/255, not 8).
        steps: gradient steps of each restart.
        norm: "linf" or "l2".
        restarts: random starts; with more than one, the start of greatest loss is kept for each sample.
        random_start: False starts at the natural input.
        loss: "ce", "margin", "dlr", or a function (logits [N, C], y) -> loss [N], to climb.
        bn: "eval", "train" or "keep": the mode the whole model is in while it is attacked.
        engine: "auto", or one of ro_fast.attacks.engines: "eager", "mlp", "fused", "compiled", "captured"; :meth:`explain`
            tells which "auto" takes and why. All take the same steps, up to rounding.
        generator: draws the noise, on the device of the inputs; None uses torch's global one.
        lo, hi: input range; inputs beyond it by more than rounding are an error (looked for on a CPU alone: a GPU would have to
            wait). For inputs normalised by one number, its ends after normalisation.
        final_forward: also run the forward that chooses among restarts when there is just one, as published loops do;
            with bn="train" its BatchNorm update is all that is left of it.

    Raises:
        ValueError: on a budget or an option that doesn't fit.

    Deterministic given the noise; nothing waits for the device. Source: Madry et al. 2018 (arXiv 1706.06083).

    >>> model = torch.nn.Linear(2, 2)
    >>> x, y = torch.rand(5, 2), torch.zeros(5, dtype=torch.int64)
    >>> x_adv = PGD(eps=0.1, alpha=0.05, steps=3)(model, x, y)
    >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
    True
    """

    eps: float = 8 / 255
    alpha: float = 2 / 255
    steps: int = 10
    norm: str = "linf"
    restarts: int = 1
    random_start: bool = True
    loss: str | Callable[[Tensor, Tensor], Tensor] = "ce"
    bn: str = "eval"
    engine: str = "auto"
    generator: torch.Generator | None = None
    final_forward: bool = False
    lo: float = 0.0
    hi: float = 1.0

    def __post_init__(self) -> None:
        _check.check_norm("PGD", self.norm)
        _check.check_range("PGD", self.lo, self.hi)
        _check.check_budget("PGD", "eps", self.eps, self.norm, self.lo, self.hi)
        _check.check_budget("PGD", "alpha", self.alpha, self.norm, self.lo, self.hi)
        if self.steps < 0 or self.restarts < 1:
            raise ValueError(f"PGD: steps = {self.steps}, restarts = {self.restarts}; at least 0 and 1 are needed")
        for name, value, known in (("bn", self.bn, MODES), ("engine", self.engine, ENGINES)):
            if value not in known:
                raise ValueError(f"PGD: {name} '{value}' is unknown; there are: {', '.join(known)}")
        if self.loss not in LOSSES and not callable(self.loss):
            losses = ", ".join(LOSSES)
            raise ValueError(f"PGD: loss '{self.loss}' is unknown; there are: {losses}, or a function (logits, y) -> [N]")

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],  # [N, ...] in [0, 1] -> logits [N, C]
        x: Tensor,  # [N, ...] in [0, 1]
        y: Tensor,  # int64 [N], or probabilities [N, C]
        *,
        eps: float | Tensor | None = None,  # replaces the attack's radius: a number or [N]
        noise: Tensor | None = None,  # [N, ...], or [restarts, N, ...]: uniform(−1, 1) for L∞, normal for L2
        active: Tensor | None = None,  # bool [N]: the others come back natural
    ) -> Tensor:
        """Attacks ``model`` at ``x`` and returns the adversarial inputs, [N, ...].

        With ``eps`` given, the step length keeps its ratio to the radius, so that any ball is crossed in as many steps.
        """
        if torch.is_inference_mode_enabled():
            raise ValueError("PGD: input gradients don't exist in torch.inference_mode(); use torch.no_grad() outside")
        x = self._checked(x)
        alpha: float | Tensor = self.alpha
        if eps is None:
            eps = self.eps
        elif self.eps > 0:
            alpha = eps * (self.alpha / self.eps)
        best, best_loss = x, None
        with borrowed(model, self.bn):
            plan = self.plan(model, y)
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

    def explain(self, model: Callable[[Tensor], Tensor], x: Tensor) -> str:
        """Tells which engine attacks ``model`` at inputs like ``x``, and why each other one does or doesn't."""
        with borrowed(model, self.bn):
            return engines.explain(self.engine, model, x, self.plan(model))

    def plan(self, model: Callable[[Tensor], Tensor], y: Tensor | None = None) -> engines.Plan:
        """What engines need to know of this attack on ``model`` in the mode it is in."""
        training = isinstance(model, nn.Module) and any(module.training for module in model.modules())
        hard = self.loss == "ce" and (y is None or y.dim() == 1)
        return engines.Plan(_total(self.loss), self.norm, self.steps, training, hard, self.lo, self.hi)

    def _checked(self, x: Tensor) -> Tensor:
        """The inputs without a graph; on a CPU an error where they leave the range by more than rounding."""
        if not isinstance(x, Tensor) or x.dtype not in _check.DTYPES:
            what = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"PGD: x is {what}; a tensor of float32, bfloat16 or float64 in [{self.lo:g}, {self.hi:g}] is needed")
        x = x.detach()
        if x.device.type == "cpu" and x.numel() > 0:
            low, high = (float(end) for end in torch.aminmax(x))
            slack = ROUNDING * (self.hi - self.lo)
            if low < self.lo - slack or high > self.hi + slack:
                raise ValueError(
                    f"PGD: x spans [{low:g}, {high:g}] but the input range is [{self.lo:g}, {self.hi:g}]; give lo= and hi=, or "
                    "put the normalisation inside the model"
                )
        return x

    @torch.no_grad()
    def _loss(self, model: Callable[[Tensor], Tensor], x_adv: Tensor, y: Tensor) -> Tensor:
        logits = model(x_adv)
        return self.loss(logits, y) if callable(self.loss) else LOSSES[self.loss](logits, y, "none")

    def _noise(self, x: Tensor, noise: Tensor | None, restart: int) -> Tensor | None:
        if not self.random_start:
            return None
        if noise is not None:
            given = noise[restart] if noise.dim() == x.dim() + 1 else noise
            if given.shape != x.shape or (self.restarts > 1 and noise.dim() == x.dim()):
                raise ValueError(
                    f"PGD: noise has shape {list(noise.shape)}; {list(x.shape)} is needed, "
                    f"led by {self.restarts} where there are several restarts"
                )
            return given
        drawn = torch.empty_like(x)
        return drawn.uniform_(-1, 1, generator=self.generator) if self.norm == "linf" else drawn.normal_(generator=self.generator)


def _cross_entropy(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return weighted_cross_entropy(logits, y, reduction=reduction)


def _margin(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return margin_loss(logits, y, reduction=reduction)


def _ratio(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    return dlr_loss(logits, y, reduction=reduction)


LOSSES = {"ce": _cross_entropy, "margin": _margin, "dlr": _ratio}


@functools.lru_cache(maxsize=16)  # one function a loss, by which engines know a graph again; a loss may hold a batch
def _total(loss: str | Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The sum over samples: each sample's gradient is then its own, whatever the batch."""
    if callable(loss):
        return lambda logits, y: loss(logits, y).sum()
    return functools.partial(LOSSES[loss], reduction="sum")
