"""All steps of an attack on an MLP in one call of ``pgd_mlp``, for networks that can be read as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.attacks.engines.engine import Climb, Model, Plan, Start
from ro_fast.models.network import Network
from ro_fast.models.normalize import Normalize
from ro_fast.ops import backends, pgd_mlp


class NotAnMLP(Exception):
    """Says in one sentence why a network can't be read as an MLP."""


def why_not_mlp(model: nn.Module, x: Tensor) -> str | None:
    """None where :func:`mlp_layers` can read the model for inputs like ``x`` [N, ...], else why it can't."""
    try:
        _read(model, x)
    except NotAnMLP as reason:
        return str(reason)
    return None


@torch.no_grad()
def mlp_layers(model: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
    """The weights [out, in] and biases [out] of an MLP as they are now, for inputs ``x`` flattened to [N, D].

    Normalisation ``s·x + t`` is folded into the first layer: ``W·diag(s)`` and ``b + W·t``.

    Args:
        model: a Network of this project or an nn.Sequential, made of Normalize, Flatten, Linear with ReLU between, Identity, and
            Dropout in eval mode.
        x: inputs [N, ...] as they will come; their values are not read.

    Raises:
        NotAnMLP: on anything else.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> weights, biases = mlp_layers(model, torch.rand(1, 2, 2))
    >>> [list(w.shape) for w in weights]
    [[3, 4], [2, 3]]
    """
    normalize, linears = _read(model, x)
    weights: list[Tensor] = [linear.weight.detach() for linear in linears]
    biases: list[Tensor | None] = [None if linear.bias is None else linear.bias.detach() for linear in linears]
    if normalize is not None:
        each = weights[0].shape[1] // normalize.mean.numel()  # inputs a channel
        scale, shift = (t.flatten().repeat_interleave(each) for t in normalize.scale_and_shift())
        offset = weights[0] @ shift
        biases[0] = offset if biases[0] is None else biases[0] + offset
        weights[0] = weights[0] * scale
    return weights, biases


def _read(model: nn.Module, x: Tensor) -> tuple[Normalize | None, list[nn.Linear]]:
    """The normalisation before the first layer, and the layers."""
    normalize: Normalize | None = None
    linears: list[nn.Linear] = []
    flat, rectified = x.dim() == 2, True  # whether the values are [N, D], and whether a linear layer may follow
    for name, module in _parts("", model):
        if type(module) is nn.Linear:
            _check_linear(name, module, x, flat, rectified)
            linears.append(module)
            rectified = False
        elif type(module) is nn.ReLU and linears:
            rectified = True
        elif type(module) is Normalize and not linears and normalize is None:
            if x.shape[1] != module.channels:
                raise NotAnMLP(f"{name} normalises {module.channels} channels but the input is {list(x.shape)}")
            normalize = module
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            flat = True
        elif type(module) is not nn.Identity and not (type(module) is nn.Dropout and not module.training):
            raise NotAnMLP(f"{name} is {module}, which no MLP has at this place")
    if not linears or rectified:
        raise NotAnMLP("it does not end in a linear layer")
    return normalize, linears


def _parts(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules in the order in which they act, with their names."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise NotAnMLP(f"{name or 'the model'} has hooks")
    if type(module) in (Network, nn.Sequential):  # a subclass may have another forward
        for child_name, child in module.named_children():
            yield from _parts(f"{name}.{child_name}".lstrip("."), child)
    else:
        yield name or "the model", module


def _check_linear(name: str, linear: nn.Linear, x: Tensor, flat: bool, rectified: bool) -> None:
    if not flat:
        raise NotAnMLP(f"{name} is a linear layer on inputs {list(x.shape)} that were not flattened")
    if not rectified:
        raise NotAnMLP(f"{name} is a linear layer that follows another without a ReLU between")
    if linear.weight.dtype != x.dtype or linear.weight.device != x.device:
        held = f"{linear.weight.dtype} on {linear.weight.device}"
        raise NotAnMLP(f"{name} holds {held}, the inputs are {x.dtype} on {x.device}")


class Mlp:
    """All steps on an MLP in one call of pgd_mlp, a block of samples at a time in the cache."""

    def why_not(self, model: Model, x: Tensor, plan: Plan) -> str | None:
        """It takes ReLU MLPs in eval mode, L∞ and cross-entropy, where a compiled backend is."""
        if not isinstance(model, nn.Module):
            return "the model is a function, not an nn.Module"
        if plan.norm != "linf" or not plan.cross_entropy:
            return "it takes L∞ and the cross-entropy of hard labels only"
        if plan.training:
            return "a module is in train mode"
        if torch.is_autocast_enabled(x.device.type):
            return "it computes in the dtype of the weights, and autocast asks for another"
        if backends.running("pgd_mlp", x.device.type, x.dtype) == "reference":
            return "no compiled pgd_mlp is here (run: ro-fast build)"
        return why_not_mlp(model, x)

    def prepare(self, model: Model, x: Tensor, plan: Plan) -> Climb:
        """Reads the weights as they are now."""
        assert isinstance(model, nn.Module)
        weights, biases = mlp_layers(model, x)

        def climb(start: Start) -> Tensor:
            noise = None if start.noise is None else start.noise.flatten(1)
            budget: dict[str, Any] = {"eps": start.eps, "alpha": start.alpha, "steps": plan.steps}
            x_adv = pgd_mlp(start.x.flatten(1), start.y, weights, biases, noise, **budget).view(start.x.shape)
            if start.active is not None:
                x_adv = torch.where(start.active.view(-1, *[1] * (x.dim() - 1)), x_adv, start.x)
            return x_adv

        return climb
