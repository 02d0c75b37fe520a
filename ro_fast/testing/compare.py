"""Whether a backend's result is right: as close to float64 as the reference's, plus a few roundings."""

from __future__ import annotations

from typing import Any

import torch

from ro_fast.ops import backends
from ro_fast.testing.sample import outputs

# What a correct kernel may lose beyond the reference, as a fraction of the largest value: a few roundings of the dtype.
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 8e-3, torch.float64: 1e-13}


def assert_close(ours: Any, reference: Any, truth: Any, dtype: torch.dtype, what: object = "result") -> None:
    """Raises AssertionError unless ``|truth − ours| ≤ |truth − reference| + tol`` elementwise.

    Args:
        ours, reference: outputs computed from inputs of ``dtype``; where the reference is not finite, both must be equal.
        truth: the float64 output.
        dtype: selects the entry of TOLERANCE, a fraction of the largest finite true value; an output's coarser dtype prevails.
        what: a name for the message.
    """
    for ours_, reference_, truth_ in zip(outputs(ours), outputs(reference), outputs(truth), strict=True):
        assert ours_.shape == reference_.shape, f"{what}: shape {list(ours_.shape)}, not {list(reference_.shape)}"
        assert ours_.dtype == reference_.dtype, f"{what}: {ours_.dtype}, not {reference_.dtype}"
        a, b, t = (v.detach().double() for v in (ours_, reference_, truth_))
        finite = b.isfinite() & t.isfinite()
        same = (a == b) | (a.isnan() & b.isnan())
        scale = t[finite].abs().max().item() if finite.any() else 0.0
        tolerance = max(TOLERANCE[dtype], TOLERANCE.get(ours_.dtype, 0.0))
        excess = torch.where(finite, (t - a).abs() - (t - b).abs() - tolerance * scale, 0.0)
        wrong = torch.where(finite, ~(excess <= 0), ~same)
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            raise AssertionError(
                f"{what}: {int(wrong.sum())} of {wrong.numel()} values are off; at {list(at)} it is {a[at].item():.9g}, "
                f"the reference {b[at].item():.9g}, in float64 {t[at].item():.9g}"
            )


def backends_for(op_name: str, device: str = "cpu") -> dict[str, str | None]:
    """Each backend's name with None if it can run the operator on the device, otherwise the reason why not."""
    return {name: backends.why_not(name, op_name, torch.device(device).type) for name in backends.BACKENDS}
