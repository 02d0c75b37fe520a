"""Images as vectors and features, computed once and shared by everything that compares images."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ro_fast.check.progress import Ticker
from ro_fast.data import ImageData
from ro_fast.data.stored_images import in_memory

SIDE = 32  # larger images are averaged down to this many pixels per side before they are compared
COMPONENTS = 64  # principal components
FIT_ROWS = 10_000  # images used to fit them
K = 20  # neighbours kept per image
_CHUNK = 4096

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Images:
    """One data set as vectors [N, D] in [0, 1] and principal components [N, F], with nearest neighbours."""

    def __init__(self, data: ImageData, seed: int = 0, validates: NDArray[np.bool_] | None = None) -> None:
        self.data, self.seed = data, seed
        # [N] training images that a run would validate with instead.
        self.validates = np.zeros(len(data.y_train), dtype=bool) if validates is None else validates
        self.y_train: Ints = data.y_train.numpy()
        self.y_test: Ints = data.y_test.numpy()
        self.classes = data.num_classes

    def names(self, labels: Iterable[Any]) -> list[str]:
        """The meaning of labels, in words if known."""
        return [self.data.class_name(int(label)) for label in labels]

    @cached_property
    def train(self) -> Floats:
        """Training images [N, D]."""
        return self._vectors(in_memory(self.data.x_train))

    @cached_property
    def test(self) -> Floats:
        """Test images [M, D]."""
        return self._vectors(self.data.x_test)

    def _vectors(self, x: torch.Tensor) -> Floats:
        if x.ndim == 2 or max(x.shape[2:]) <= SIDE:
            return self.data.images(x).flatten(1).numpy()
        size = (min(SIDE, x.shape[2]), min(SIDE, x.shape[3]))
        parts = [torch.nn.functional.adaptive_avg_pool2d(self.data.images(part), size).flatten(1) for part in x.split(512)]
        return torch.cat(parts).numpy()

    @cached_property
    def features(self) -> tuple[Floats, Floats]:
        """Principal components of training [N, F] and test images [M, F], fitted on both alike, so that no difference is lost."""
        train, test = components(self.train, self.test, seed=self.seed)
        return train, test

    @cached_property
    def neighbours(self) -> tuple[Floats, Ints]:
        """Distance and row of the nearest other training images for each training image, [N, min(K, N - 1)]."""
        return nearest_others(self.features[0], K, "neighbours among training images")


def components(*parts: Floats, seed: int = 0) -> tuple[Floats, ...]:
    """Principal components of all parts together; distances between them are at most those between the vectors."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    share = min(1.0, FIT_ROWS / sum(map(len, parts)))
    rows = np.concatenate([part[rng.permutation(len(part))[: max(1, int(share * len(part)))]] for part in parts])
    pca = PCA(min(COMPONENTS, *rows.shape), random_state=seed).fit(rows)
    return tuple(np.ascontiguousarray(pca.transform(part), dtype=np.float32) for part in parts)


def nearest(queries: Floats, among: Floats, k: int, what: str) -> tuple[Floats, Ints]:
    """L2 distance and row of the k nearest of ``among`` for each query, nearest first; fewer if there are fewer."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(k, len(among)), algorithm="brute").fit(among)
    ticker = Ticker(what, len(queries))
    found = []
    for start in range(0, len(queries), _CHUNK):
        found.append(index.kneighbors(queries[start : start + _CHUNK]))
        ticker.tick(min(start + _CHUNK, len(queries)))
    distances, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distances, rows


def nearest_others(vectors: Floats, k: int, what: str) -> tuple[Floats, Ints]:
    """Like :func:`nearest` among the queries themselves, each excluding itself: [N, min(k, N - 1)]."""
    k = min(k, len(vectors) - 1)
    distances, rows = nearest(vectors, vectors, k + 1, what)
    own = rows == np.arange(len(vectors))[:, None]
    own[~own.any(1), -1] = True  # among many identical images an image need not find itself
    return distances[~own].reshape(len(vectors), k), rows[~own].reshape(len(vectors), k)
