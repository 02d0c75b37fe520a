"""Where features are read: a model's stages and its penultimate layer, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ro_fast.errors import InputError
from ro_fast.models.network import Network

PENULTIMATE = "penultimate"


class FeatureReader:
    """Runs a model and returns its logits and the features of some layers, averaged over positions, [N, D] each.

    Layers are "stage1", "stage2", … (the stages of a shipped model, the hidden layers of an MLP, or else the
    ``nn.Sequential`` children of the body) and "penultimate", the input of the last linear layer. Hooks live for one call.

    Args:
        model: a network that ends in a linear layer.
        layers: names; None for all available ones.
        detach: False keeps the graph of the features.

    Raises:
        InputError: if a layer does not exist; the message lists those that do.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str] | None = None, detach: bool = True) -> None:
        self.model, self._detach = model, detach
        head, stages = _parts(model)
        known = [*stages, PENULTIMATE]
        self.layers = known if layers is None else list(layers)
        for name in self.layers:
            if name not in known:
                raise InputError(f"features.layers: the model has no layer '{name}'; it has: {', '.join(known)}")
        self._stages = {name: module for name, module in stages.items() if name in self.layers}
        self._head = head if PENULTIMATE in self.layers else None

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [N, C] and layer -> features [N, D], in at least float32."""
        found: dict[str, Tensor] = {}

        def keep(name: str, t: Tensor) -> None:
            pooled = t.flatten(2).mean(2) if t.dim() > 2 else t
            found[name] = (pooled.detach() if self._detach else pooled).to(torch.promote_types(pooled.dtype, torch.float32))

        hooks = [
            module.register_forward_hook(lambda module, args, out, name=name: keep(name, out))
            for name, module in self._stages.items()
        ]
        if self._head is not None:
            hooks.append(self._head.register_forward_pre_hook(lambda module, args: keep(PENULTIMATE, args[0])))
        try:
            logits = self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, {name: found[name] for name in self.layers}


def _parts(model: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The last linear layer, and the stages before it."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise InputError(f"features: {type(model).__name__} has no linear layer whose inputs could be read as features")
    body = model.trunk if isinstance(model, Network) else getattr(model, "net", model)
    children = list(body.children())
    kind = nn.Sequential if any(isinstance(child, nn.Sequential) for child in children) else nn.ReLU
    stages = [child for child in children if isinstance(child, kind)]
    return linears[-1], {f"stage{i}": module for i, module in enumerate(stages, 1)}
