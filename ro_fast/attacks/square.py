"""Square attack: random squares, kept if the margin grows; it needs only logits, so masked gradients don't stop it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ro_fast.attacks import engines
from ro_fast.attacks.active_set import State, in_one_batch, like_rows
from ro_fast.attacks.answer import Output
from ro_fast.attacks.any_step import radii
from ro_fast.attacks.borrow import borrowed
from ro_fast.attacks.box import Box, Budget, box_of
from ro_fast.attacks.pgd import PGD
from ro_fast.ops import margin_loss

# The queries, out of 10000, after which the fraction of changed pixels is halved.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass
class Square:
    """Square attack in L∞: from stripes x ± ε, tries random squares of ±ε and keeps those that raise ``max_{k≠y} z_k − z_y``.

    Args:
        eps: radius in input units (8/255, not 8), or one per channel.
        queries: maximum number of forward passes per sample.
        norm: "linf"; the L2 form of the attack is not implemented.
        share: fraction of the pixels covered by the first square; halved along ``queries`` on the schedule published for 10000.
        seed: draws stripes and squares. A draw depends on the sample, its query and the seed, not on the batch.
        lo, hi, output: as for :class:`~ro_fast.attacks.PGD`.

    Raises:
        ValueError: on an invalid budget or option.

    Called on a batch, it runs all queries and returns for each sample the first misclassified point, or else that of greatest
    margin; :func:`ro_fast.attacks.cascade` runs it on surviving samples only. Vectors [N, D] are treated as images of one row,
    whose squares are intervals. Source: Andriushchenko et al. 2020 (arXiv 1912.00049); unlike in their batched code, each sample
    has its own squares. AutoAttack stops the schedule of 10000 queries at 5000, where its squares are still larger: its Square is
    a different attack.

    >>> x, y = torch.rand(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64)
    >>> x_adv = Square(eps=0.1, queries=20)(torch.nn.Flatten(), x, y)
    >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
    True
    """

    eps: Budget = 8 / 255
    queries: int = 5000
    norm: str = "linf"
    share: float = 0.8
    seed: int = 0
    lo: Budget = 0.0
    hi: Budget = 1.0
    output: Output = None

    def __post_init__(self) -> None:
        if self.norm != "linf":
            raise ValueError(f"Square: norm '{self.norm}' is not supported; available: linf")
        self.ball()
        if self.queries < 1:
            raise ValueError(f"Square: queries = {self.queries}; at least 1 is needed")
        if not 0 < self.share <= 1:
            raise ValueError(f"Square: share = {self.share:g} should be above 0 and at most 1")

    def ball(self) -> tuple[Box, float]:
        """The ball and range to which adversarial inputs are confined, and the radius in its units."""
        box, eps, _ = box_of("Square", self.norm, self.eps, self.eps, self.lo, self.hi)
        return box, eps

    def __call__(
        self,
        model: Callable[[Tensor], Any],  # [N, ...] in [lo, hi] -> logits [N, C], or what holds them
        x: Tensor,  # [N, C, H, W] or [N, D] in [lo, hi]
        y: Tensor,  # int64 [N]
    ) -> Tensor:
        """Attacks ``model`` at ``x``, in eval mode, and returns the adversarial inputs, [N, ...]."""
        x = self.ball()[0].check("Square", x)
        if not len(x):
            return x
        with borrowed(model, "eval"), torch.no_grad():
            return in_one_batch(Search(model, x, self), x, y)


class Search:
    """The Square attack as queries on a changing set of samples; the model is in eval mode."""

    passes = 1

    def __init__(self, model: Callable[[Tensor], Any], x: Tensor, attack: Square) -> None:
        if x.dim() not in (2, 4):
            raise ValueError(f"Square: inputs have shape {list(x.shape)}; [N, C, H, W] or [N, D] is needed")
        self.attack, self.length = attack, attack.queries
        self.box, self._eps = attack.ball()
        plan = PGD(output=attack.output).plan(model)
        self.logits, _ = engines.stepwise(model, x, plan).functions(model, x, plan, plan.loss)
        self.channels, self.height, self.width = x.shape[1:] if x.dim() == 4 else (1, 1, x.shape[1])
        sides = [_sides(share_at(query, attack), self.height, self.width) for query in range(attack.queries)]
        self._sides = torch.tensor(sides, device=x.device)  # [queries, 2]

    def noise(self, x: Tensor) -> None:
        """None: draws are a function of the sample."""

    def start(self, index: Tensor, x: Tensor, y: Tensor, noise: Tensor | None, turn: int) -> State:
        """Vertical stripes one pixel wide of ±ε, with one sign per channel and column."""
        x = self.box.check("Square", x)
        eps = radii(self._eps, x)
        stripes = self._signs(index, torch.zeros_like(index), self.channels * self.width).view(-1, self.channels, 1, self.width)
        x_adv = self._moved(x, eps, stripes.expand(-1, -1, self.height, -1))
        return {
            "index": index, "step": torch.zeros_like(index), "x": x, "x_adv": x_adv, "y": y, "eps": eps,
            "x_best": x_adv.clone(), "best_loss": torch.full_like(eps, -torch.inf),
        }  # fmt: skip

    def step(self, state: State) -> Tensor:
        """Computes the logits of the proposals, keeps those that improve, and proposes the next squares."""
        logits = self.logits(state["x_adv"])
        loss = margin_loss(logits, state["y"], reduction="none").to(state["best_loss"].dtype)
        better = loss > state["best_loss"]
        state["best_loss"] = torch.where(better, loss, state["best_loss"])
        state["x_best"] = torch.where(like_rows(better, state["x"]), state["x_adv"], state["x_best"])
        state["x_adv"] = self._propose(state)
        return logits.argmax(1) != state["y"]

    def _propose(self, state: State) -> Tensor:
        """x_best, but ±ε from x within a square: the result of a change by ±2ε clipped to the ball."""
        index, query = state["index"], state["step"] + 1
        tall, wide = self._sides[query.clamp(max=self.length - 1)].unbind(1)
        top, left = (_hash(self.attack.seed, index, query, k) for k in (0, 1))
        inside = _between(top % (self.height - tall + 1), tall, self.height)[:, :, None]
        inside = inside & _between(left % (self.width - wide + 1), wide, self.width)[:, None, :]
        signs = self._signs(index, query, self.channels).view(-1, self.channels, 1, 1)
        x, shape = state["x"], (len(index), self.channels, self.height, self.width)
        inside = inside[:, None].expand(shape).reshape(x.shape)
        return torch.where(inside, self._moved(x, state["eps"], signs), state["x_best"])

    def _moved(self, x: Tensor, eps: Tensor, signs: Tensor) -> Tensor:  # signs [B, C, 1 or H, 1 or W]
        shape = (len(x), self.channels, self.height, self.width)
        whole = signs.to(x.dtype).expand(shape).reshape(x.shape)
        return self.box.start(x, eps, whole)  # the corner of the ball given by the signs

    def _signs(self, index: Tensor, query: Tensor, count: int) -> Tensor:  # ±1 [B, count]
        bits = _hash(self.attack.seed, index[:, None], query[:, None], 2 + torch.arange(count, device=index.device))
        return 1 - 2 * (bits >> 16 & 1)


def share_at(query: int, attack: Square) -> float:
    """Fraction of the pixels that a square covers, by the published schedule stretched to the number of queries.

    >>> [share_at(query, Square(queries=10000)) for query in (0, 10, 11, 51)]
    [0.8, 0.8, 0.4, 0.2]
    """
    return attack.share / 2 ** bisect.bisect_left(_HALVINGS, int(query / attack.queries * 10000))


def _sides(share: float, height: int, width: int) -> tuple[int, int]:
    if height == 1:
        return 1, max(1, round(share * width))
    side = max(1, round(math.sqrt(share * height * width)))
    return min(side, height), min(side, width)


def _between(low: Tensor, count: Tensor, size: int) -> Tensor:  # bool [B, size]
    at = torch.arange(size, device=low.device)
    return (at >= low[:, None]) & (at < (low + count)[:, None])


def _hash(seed: int, *keys: Tensor | int) -> Tensor:
    """32 random-looking bits, a function of the keys alone: the finaliser of MurmurHash3, applied once per key."""
    mixed: Tensor | int = seed & 0xFFFFFFFF
    for key in keys:
        mixed = (mixed ^ key) & 0xFFFFFFFF
        mixed = ((mixed ^ mixed >> 16) * 0x85EBCA6B) & 0xFFFFFFFF  # the product wraps around; its lower half is exact
        mixed = ((mixed ^ mixed >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 16) + 0x9E3779B9
    assert isinstance(mixed, Tensor)
    return mixed & 0xFFFFFFFF
