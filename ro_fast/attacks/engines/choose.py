"""Which engine attacks a model: the one named, or the first of :func:`automatic` that can."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ro_fast.attacks.engines.captured import Captured
from ro_fast.attacks.engines.compiled import Compiled
from ro_fast.attacks.engines.eager import Eager
from ro_fast.attacks.engines.engine import Climb, Model, Plan
from ro_fast.attacks.engines.fused import FUSED, TRACES, Mlp


def prepare(name: str, model: Model, x: Tensor, plan: Plan) -> Climb:
    """Prepares the engine of that name, or the one that "auto" picks, for an attack on the model as it is now."""
    with TRACES.one_look():
        return choose(name, model, x, plan).prepare(model, x, plan)


def stepwise(model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine that can provide single gradients: fused if it can and gains, otherwise eager."""
    return next(ENGINES[name] for name in ("fused", "eager") if _why_not_by_itself(name, model, x, plan) is None)


def _why_not_by_itself(name: str, model: Model, x: Tensor, plan: Plan, note: bool = True) -> str | None:
    """Why "auto" skips an engine: it can't attack the model, or would not gain; without ``note``, asking records nothing."""
    reason = ENGINES[name].why_not(model, x, plan)
    if reason is None and name == "fused" and isinstance(model, nn.Module) and not FUSED.gains(model, x, plan):
        return "no pass that would speed it up applies to the network's graph, so autograd is as fast"
    if reason is None and name == "captured" and isinstance(model, nn.Module):
        # A replay runs no Python: unless named, this engine takes only networks that are traced, and proven again and again.
        if unproven := FUSED.why_not(model, x, plan):
            return f"a network is captured automatically only if its graph is proven: {unproven}"
        if not CAPTURED.came_before(model, x, plan, note):
            return "this kind of attack runs for the first time; it is captured when it runs again"
    return reason


CAPTURED = Captured(stepwise)
ENGINES: dict[str, Any] = {
    "eager": Eager(),
    "mlp": Mlp(),
    "fused": FUSED,
    "compiled": Compiled(),
    "captured": CAPTURED,
}
# On a GPU launches dominate: one graph of all steps comes first; the kernel for all steps on an MLP loses to it (measured).
AUTO = {"cpu": ("mlp", "fused", "eager"), "cuda": ("captured", "fused", "eager")}


def automatic(device: str) -> tuple[str, ...]:
    """The engines that "auto" tries on a device, in order."""
    return AUTO.get(device, AUTO["cpu"])


def choose(name: str, model: Model, x: Tensor, plan: Plan) -> Any:
    """The engine of that name, or for "auto" the first of the device's engines that can take the model and gains from it.

    Raises:
        ValueError: if the named one can't; gives its reason.
    """
    if name == "auto":
        return next(ENGINES[other] for other in automatic(x.device.type) if _why_not_by_itself(other, model, x, plan) is None)
    reason = ENGINES[name].why_not(model, x, plan)
    if reason is not None:
        raise ValueError(f"PGD: engine '{name}' can't attack this model: {reason}; engine 'auto' chooses one that can")
    return ENGINES[name]


def explain(name: str, model: Model, x: Tensor, plan: Plan) -> str:
    """Reports in a few lines which engine runs, and why each of the others does or doesn't."""
    reasons = {other: _why_not_by_itself(other, model, x, plan, note=False) for other in ENGINES}
    chosen = name if name != "auto" else next(other for other in automatic(x.device.type) if reasons[other] is None)
    lines = [f"engine: {chosen}" + ("" if name == "auto" else " (named)")]
    for other, reason in reasons.items():
        where = "available" if other in automatic(x.device.type) else "available when named"
        lines.append(f"  {other}: {reason or where}")
    if chosen in ("fused", "mlp") and isinstance(model, nn.Module):
        lines.append(f"its graph: {FUSED.about(model, x, plan)}")
    return "\n".join(lines)
