"""Which engine attacks a model: the one that is named, or the first of :data:`AUTO` that can take it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ro_fast.attacks.engines.captured import Captured
from ro_fast.attacks.engines.compiled import Compiled
from ro_fast.attacks.engines.eager import Eager
from ro_fast.attacks.engines.engine import Climb, Model, Plan
from ro_fast.attacks.engines.fused import FUSED, TRACES, Mlp


def prepare(name: str, model: Model, x: Tensor, plan: Plan) -> Climb:
    """Makes the engine of that name, or the one that "auto" takes, ready for an attack on the model as it is now."""
    with TRACES.one_look():
        return choose(name, model, x, plan).prepare(model, x, plan)


def stepwise(model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine whose single gradients can be had: fused where it can and gains, else eager."""
    return next(ENGINES[name] for name in ("fused", "eager") if _why_not_by_itself(name, model, x, plan) is None)


def _why_not_by_itself(name: str, model: Model, x: Tensor, plan: Plan) -> str | None:
    """Why "auto" doesn't take an engine: it can't attack the model, or it would not gain."""
    reason = ENGINES[name].why_not(model, x, plan)
    if reason is None and name == "fused" and isinstance(model, nn.Module) and not FUSED.gains(model, x, plan):
        return "no pass that gains applies to the network's graph, so that autograd is as fast"
    return reason


ENGINES: dict[str, Any] = {
    "eager": Eager(),
    "mlp": Mlp(),
    "fused": FUSED,
    "compiled": Compiled(),
    "captured": Captured(stepwise),
}
AUTO = ("mlp", "fused", "eager")


def choose(name: str, model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine of that name, or for "auto" the first of AUTO that can take the model.

    Raises:
        ValueError: where the named one can't, with its reason.
    """
    if name == "auto":
        return next(ENGINES[other] for other in AUTO if _why_not_by_itself(other, model, x, plan) is None)
    reason = ENGINES[name].why_not(model, x, plan)
    if reason is not None:
        raise ValueError(f"PGD: engine '{name}' can't attack this model: {reason}; engine 'auto' takes one that can")
    return ENGINES[name]


def explain(name: str, model: Model, x: Tensor, plan: Plan) -> str:
    """Tells in a few lines which engine runs, and why each other one does or doesn't."""
    reasons = {other: _why_not_by_itself(other, model, x, plan) for other in ENGINES}
    chosen = name if name != "auto" else next(other for other in AUTO if reasons[other] is None)
    lines = [f"engine: {chosen}" + ("" if name == "auto" else " (named)")]
    for other, reason in reasons.items():
        lines.append(f"  {other}: {reason or ('available' if other in AUTO else 'available where it is named')}")
    if chosen in ("fused", "mlp") and isinstance(model, nn.Module):
        lines.append(f"its graph: {FUSED.about(model, x, plan)}")
    return "\n".join(lines)
