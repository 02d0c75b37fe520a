"""Adversarial weight perturbation: takes the step's gradient at the worst nearby weights (AWP), and MLCAT's form of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.errors import InputError
from ro_fast.methods.batch_norm import running_statistics_held
from ro_fast.parallel import gradients

OPTIONS = ("weight_perturbation", "gamma")  # for every method
_KINDS = {"awp": 0.01, "mlcat": 0.01}  # with the published γ
_MLCAT_STEPS = 10
_TINY = 1e-20


class WeightPerturbation:
    """Adds v to the weights before the step's first training forward, and removes it after the optimiser step.

    "awp" (Wu et al. 2020, arXiv 2004.05884, Algorithm 1 as released): with ``g_l = ∇_{w_l} L(x', y)`` of the whole batch,
    ``v_l = γ·‖w_l‖·g_l/‖g_l‖`` for each weight matrix or kernel l. "mlcat" (Yu et al. 2022, arXiv 2206.08675, MLCAT_WP as
    released): ten times, the gradient of small-loss samples alone at w + v is added to G, and ``v = γ·‖w‖·G/‖G‖`` with the
    norms over all weights together: only what is already learnt is made harder. Biases and BatchNorm's parameters stay.

    L is the objective's loss on the forward's inputs. The optimiser steps from w + v, as released. BatchNorm's
    running statistics are not updated. Nothing is kept from one step to the next, so a run stores no state for it.
    """

    def __init__(self, kind: str, gamma: float) -> None:
        self.kind, self.gamma = kind, gamma
        self._moved: list[tuple[Tensor, Tensor]] = []  # weights, v
        self.applied = False

    def apply(self, model: nn.Module, loss: Callable[[bool], Tensor]) -> None:
        """Finds v and adds it to the weights.

        Args:
            model: the network about to be trained.
            loss: the objective's loss on the coming batch at the current weights: for all
                samples (False), or small-loss samples alone (True).
        """
        self.applied = True
        weights = [p for name, p in model.named_parameters() if p.dim() > 1 and "weight" in name and p.requires_grad]
        if self.kind == "awp":
            gradients = self._gradients(model, loss, weights)
            self._moved = [(w, self._scaled(w.norm(), g.norm(), g)) for w, g in zip(weights, gradients, strict=True)]
            self._add(1)
            return
        size = _norm(weights)
        gathered = [torch.zeros_like(w) for w in weights]
        for _ in range(_MLCAT_STEPS):
            for total, g in zip(gathered, self._gradients(model, loss, weights), strict=True):
                total += g
            self.restore()
            length = _norm(gathered)
            self._moved = [(w, self._scaled(size, length, g)) for w, g in zip(weights, gathered, strict=True)]
            self._add(1)
        self.applied = True

    def restore(self) -> None:
        """Removes v again; does nothing if none was added."""
        self._add(-1)
        self._moved, self.applied = [], False

    def _gradients(
        self, model: nn.Module, loss: Callable[[bool], Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        with running_statistics_held(model), torch.enable_grad():
            return gradients(model, loss(self.kind == "mlcat"), weights)

    @torch.no_grad()
    def _scaled(self, size: Tensor, length: Tensor, direction: Tensor) -> Tensor:
        return self.gamma * size / (length + _TINY) * direction

    @torch.no_grad()
    def _add(self, sign: int) -> None:
        for w, v in self._moved:
            w.add_(v, alpha=sign)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.stack([t.norm() for t in tensors]).norm()


def build_weight_perturbation(options: Mapping[str, Any]) -> WeightPerturbation | None:
    """The perturbation named in a method's options, or None.

    Raises:
        InputError: on an unknown name.
    """
    kind = options.get("weight_perturbation")
    if kind is None:
        return None
    if kind not in _KINDS:
        raise InputError(f"method.weight_perturbation '{kind}' is unknown; available: {', '.join(_KINDS)}")
    gamma = options.get("gamma")
    return WeightPerturbation(kind, _KINDS[kind] if gamma is None else float(gamma))
