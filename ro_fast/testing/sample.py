"""One call of an operator, and the ingredients for generating such calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ro_fast.ops import OPS, ClassMoments, backends


@dataclass(frozen=True)
class Sample:
    """One call of a public operator."""

    op: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}({self.name})"

    def run(self, op: Callable[..., Any] | None = None) -> Any:
        """Calls the operator, or another function with the same arguments."""
        return (op or OPS[self.op])(*self.args, **self.kwargs)

    def map(self, f: Callable[[Tensor], Tensor]) -> Sample:
        """The call with ``f`` applied to each floating-point tensor, also within lists."""

        def of(value: Any) -> Any:
            if isinstance(value, list):
                return [of(v) for v in value]
            return f(value) if isinstance(value, Tensor) and value.is_floating_point() else value

        return replace(
            self, args=tuple(of(v) for v in self.args), kwargs={name: of(v) for name, v in self.kwargs.items()}
        )

    def truth(self) -> tuple[Tensor, ...]:
        """The reference's outputs in float64 from the same, already rounded, inputs."""
        sample = self.map(lambda t: t.double())
        if "dtype" in sample.kwargs:  # that of an output; the truth is not rounded to it
            sample.kwargs["dtype"] = torch.float64
        with backends.use_backend("reference"):
            return outputs(sample.run())


def outputs(result: Any) -> tuple[Tensor, ...]:
    """The tensors returned by an operator, as a tuple."""
    if isinstance(result, ClassMoments):
        result = (result.count, result.mean) + (() if result.scatter is None else (result.scatter,))
    return result if isinstance(result, tuple) else (result,)


class Draw:
    """Random tensors of one dtype on one device, reproducible."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, device
        self._generator = torch.Generator().manual_seed(0)

    def uniform(self, *shape: int, lo: float = 0.0, hi: float = 1.0) -> Tensor:
        values = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        return (lo + (hi - lo) * values).to(self.device, self.dtype)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64).to(self.device, self.dtype)

    def labels(self, n: int, num_classes: int) -> Tensor:
        return torch.randint(num_classes, (n,), generator=self._generator).to(self.device)

    def mask(self, n: int) -> Tensor:
        return torch.arange(n, device=self.device) % 2 == 0


def hostile(draw: Draw, *shape: int) -> Tensor:
    """A gradient whose samples are zero, tiny, huge, or contain NaN or an infinity; the last is ordinary."""
    g = draw.normal(*shape)
    g[0] = 0
    g[1] *= 1e-30
    g[2] *= 1e30
    g[3].view(-1)[0] = math.nan
    g[4].view(-1)[-1] = math.inf
    return g
