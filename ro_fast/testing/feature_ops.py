"""Samples of the statistics on features and losses: empty classes, one sample, none, values far from 0, NaN and inf."""

from __future__ import annotations

from collections.abc import Iterator

from ro_fast.testing.sample import Draw, Sample


def _class_moments(draw: Draw) -> Iterator[Sample]:
    for n, d, c in ((17, 5, 4), (40, 19, 3), (1, 1, 1), (0, 3, 2), (4, 67, 9), (600, 3, 2)):
        for covariance in (False, True):
            name = f"N {n}, D {d}, C {c}" + (", covariance" if covariance else "")
            yield Sample("class_moments", name, (draw.normal(n, d), draw.labels(n, c), c), {"covariance": covariance})
    yield Sample("class_moments", "far from 0", (1e3 + draw.normal(33, 4), draw.labels(33, 2), 2), {"covariance": True})


CASES = {"class_moments": _class_moments}
