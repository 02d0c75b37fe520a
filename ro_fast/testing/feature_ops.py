"""Samples of the statistics on features and losses: empty classes, one sample, none, values far from 0, NaN and inf."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ro_fast.testing.sample import Draw, Sample


def _class_moments(draw: Draw) -> Iterator[Sample]:
    for n, d, c in ((17, 5, 4), (40, 19, 3), (1, 1, 1), (0, 3, 2), (4, 67, 9), (600, 3, 2)):
        for covariance in (False, True):
            name = f"N {n}, D {d}, C {c}" + (", covariance" if covariance else "")
            yield Sample("class_moments", name, (draw.normal(n, d), draw.labels(n, c), c), {"covariance": covariance})
    yield Sample("class_moments", "far from 0", (1e3 + draw.normal(33, 4), draw.labels(33, 2), 2), {"covariance": True})


def _small_loss(draw: Draw) -> Iterator[Sample]:
    for n, bins in ((17, 64), (1, 1), (0, 3), (700, 5)):
        yield Sample("small_loss", f"N {n}, {bins} bins", (draw.uniform(n, hi=9.0), 1.5), {"bins": bins})
    loss = draw.uniform(40, lo=-1.0, hi=4.0)
    yield Sample("small_loss", "threshold on the device", (loss, loss.median()), {"bins": 7, "lo": -0.3, "hi": 2.9})
    edges = draw.uniform(13)
    edges[:7] = edges.new_tensor([0.0, 0.5, 1.5, 2.0, -0.0, 8.0, 7.5])
    edges[7:11] = edges.new_tensor([math.nan, math.inf, -math.inf, -1e30])
    yield Sample("small_loss", "edges of bins, NaN and inf", (edges, 1.5), {"bins": 16})


CASES = {"class_moments": _class_moments, "small_loss": _small_loss}
