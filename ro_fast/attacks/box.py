"""Where adversarial inputs may lie: within the ball around the natural input and within the input range."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ro_fast.ops import _check, pgd_init, pgd_step

Budget = float | Sequence[float]  # for all channels, or one per channel
ROUNDING = 1e-5  # as a fraction of the input range: tolerance for inputs beyond it


@dataclass(frozen=True)
class Box:
    """The ball and the input range of an attack, each the same for all channels or per channel (dimension 1 of the inputs).

    A ball that differs by channel is given as factors that multiply a radius or a step length.

    Args:
        norm: "linf" or "l2"; the L2 ball is the same for all channels.
        lo, hi: the input range.
        eps, alpha: factors of radius and step length per channel; () if there are none.
    """

    norm: str = "linf"
    lo: float | tuple[float, ...] = 0.0
    hi: float | tuple[float, ...] = 1.0
    eps: tuple[float, ...] = ()
    alpha: tuple[float, ...] = ()

    @property
    def by_channel(self) -> bool:
        """Whether anything differs by channel."""
        return bool(self.eps or self.alpha or isinstance(self.lo, tuple) or isinstance(self.hi, tuple))

    def start(self, x: Tensor, eps: float | Tensor, noise: Tensor) -> Tensor:
        """A random point of the ball, [N, ...], from noise: uniform(−1, 1) for L∞, normal for L2; eps is a number or [N]."""
        if not self.by_channel:
            assert isinstance(self.lo, float) and isinstance(self.hi, float)
            return pgd_init(x, eps, noise, norm=self.norm, lo=self.lo, hi=self.hi)
        if self.norm == "l2":
            return self._in_range(pgd_init(x, eps, noise, norm="l2", lo=min(_each(self.lo)), hi=max(_each(self.hi)))).to(x.dtype)
        return self.clamp(x + self.radius(eps, x) * noise, x, eps)

    def step(
        self,
        x_adv: Tensor,
        x: Tensor,
        grad: Tensor,
        eps: float | Tensor,
        alpha: float | Tensor,
        *,
        active: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """A step of length alpha along the gradient, projected to the ball and range; eps and alpha are numbers or [N]."""
        if not self.by_channel:
            assert isinstance(self.lo, float) and isinstance(self.hi, float)
            return pgd_step(x_adv, x, grad, eps, alpha, norm=self.norm, lo=self.lo, hi=self.hi, active=active, out=out)
        if self.norm == "l2":
            low, high = min(_each(self.lo)), max(_each(self.hi))
            moved = self._in_range(pgd_step(x_adv, x, grad, eps, alpha, norm="l2", lo=low, hi=high)).to(x.dtype)
        else:
            length = _rows(alpha, x) * _by_channel(self.alpha or (1.0,), x)
            moved = self.clamp(x_adv + length * grad.sign(), x, eps)
        if active is not None:
            moved = torch.where(active.view(-1, *[1] * (x.dim() - 1)), moved, x_adv)
        return moved if out is None else out.copy_(moved)

    def clamp(self, x_adv: Tensor, x: Tensor, eps: float | Tensor) -> Tensor:
        """Projects to the L∞ ball and the range, elementwise."""
        radius = self.radius(eps, x)
        return self._in_range(torch.clamp(x_adv, x - radius, x + radius).to(x.dtype))

    def radius(self, eps: float | Tensor, x: Tensor) -> Tensor:
        """The L∞ radius, shaped to broadcast against inputs, in the dtype in which steps are computed."""
        return _rows(eps, x) * _by_channel(self.eps or (1.0,), x)

    def check(self, attack: str, x: Tensor) -> Tensor:
        """The inputs, detached, if they are floats within the range; the range is not checked on a GPU, which would synchronise.

        Raises:
            TypeError, ValueError: if they are not; names what was given and what is needed.
        """
        if not isinstance(x, Tensor) or x.dtype not in _check.DTYPES:
            what = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{attack}: x is {what}; a tensor of float32, bfloat16 or float64 in {self._told()} is needed")
        x = x.detach()
        for name, values in (("lo", self.lo), ("hi", self.hi), ("eps", self.eps), ("alpha", self.alpha)):
            if isinstance(values, tuple) and values and (x.dim() < 2 or x.shape[1] != len(values)):
                raise ValueError(f"{attack}: {name} has {len(values)} values, one per channel, but x has shape {list(x.shape)}")
        if x.device.type == "cpu" and x.numel() > 0:
            self._check_range(attack, x)
        return x

    def _check_range(self, attack: str, x: Tensor) -> None:
        lows, highs = _each(self.lo), _each(self.hi)
        count = max(len(lows), len(highs))
        if count == 1:
            ends = [[end.item()] for end in torch.aminmax(x)]
        else:
            channels = x.transpose(0, 1).flatten(1)
            ends = [channels.amin(1).tolist(), channels.amax(1).tolist()]
        for i, (low, high) in enumerate(zip(*ends, strict=True)):
            lo, hi = lows[i % len(lows)], highs[i % len(highs)]
            slack = ROUNDING * (hi - lo)
            if not (low >= lo - slack and high <= hi + slack):  # also catches NaN
                where = f" in channel {i}" if count > 1 else ""
                raise ValueError(
                    f"{attack}: x spans [{low:g}, {high:g}]{where} but the input range is [{lo:g}, {hi:g}]; give lo= and hi=, "
                    "or attack ro_fast.attacks.normalised(model, mean, std) with inputs before normalisation"
                )

    def _in_range(self, x_adv: Tensor) -> Tensor:
        if isinstance(self.lo, float) and isinstance(self.hi, float):
            return x_adv.clamp(self.lo, self.hi)
        return torch.clamp(x_adv, *(_by_channel(_each(end), x_adv) for end in (self.lo, self.hi)))

    def _told(self) -> str:
        low, high = (", ".join(f"{v:g}" for v in _each(end)) for end in (self.lo, self.hi))
        return f"[{low}, {high}]" if not self.by_channel else f"[({low}), ({high})]"


def box_of(attack: str, norm: str, eps: Budget, alpha: Budget, lo: Budget, hi: Budget) -> tuple[Box, float, float]:
    """The box for an attack's arguments, and the radius and step length to use with it: 1 if they differ by channel.

    Raises:
        ValueError: if they don't fit together; names what was given and what would be valid.
    """
    given = {"eps": eps, "alpha": alpha, "lo": lo, "hi": hi}
    return _made(attack, norm, *(_values(attack, name, value) for name, value in given.items()))


Values = float | tuple[float, ...]


@functools.lru_cache(maxsize=256)  # every call of an attack asks for it
def _made(attack: str, norm: str, eps: Values, alpha: Values, lo: Values, hi: Values) -> tuple[Box, float, float]:
    _check.check_norm(attack, norm)
    given = {"eps": eps, "alpha": alpha, "lo": lo, "hi": hi}
    counts = {name: len(values) for name, values in given.items() if isinstance(values, tuple)}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"{attack}: the numbers of per-channel values differ ({told}); they should be equal")
    if norm == "l2" and ("eps" in counts or "alpha" in counts):
        raise ValueError(f"{attack}: in L2, eps and alpha must be numbers; per-channel radii exist only in L∞")
    for i in range(max(counts.values(), default=1)):
        e, a, low, high = (values[i] if isinstance(values, tuple) else values for values in given.values())
        _check.check_range(attack, low, high)
        _check.check_budget(attack, "eps", e, norm, low, high)
        _check.check_budget(attack, "alpha", a, norm, low, high)
    shape = [values if isinstance(values, tuple) else () for values in (eps, alpha)]
    size = [1.0 if isinstance(values, tuple) else values for values in (eps, alpha)]
    return Box(norm, lo, hi, *shape), *size  # type: ignore[return-value]


def _values(attack: str, name: str, value: Budget) -> Values:
    if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0):
        return float(value)
    try:
        found = tuple(float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{attack}: {name} is {type(value).__name__}; a number, or one for each channel, is needed") from error
    if not found:
        raise ValueError(f"{attack}: {name} is empty; a number, or one for each channel, is needed")
    return found


def _each(value: Values) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _by_channel(values: tuple[float, ...], x: Tensor) -> Tensor:
    """[1, C, 1, ...], or one for all channels, in the dtype in which steps are computed."""
    given = torch.tensor(values, dtype=_check.compute_dtype(x), device=x.device)
    return given if len(values) == 1 else given.view(1, -1, *[1] * (x.dim() - 2))


def _rows(value: float | Tensor, x: Tensor) -> Tensor | float:
    """[N] as [N, 1, ...], to broadcast against inputs [N, ...], in the dtype in which steps are computed."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    return value.to(_check.compute_dtype(x)).view(-1, *[1] * (x.dim() - 1))
