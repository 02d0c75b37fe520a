"""A fast and accurate classifier on a few principal components: logistic regression on a random part of an RBF kernel."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ro_fast.check.images import Floats, Ints

KERNELS = 500  # of Nyström's approximation (Williams & Seeger 2001)
PENALTY = 10.0  # scikit-learn's C


def fit(features: Floats, labels: Ints, scale: float, seed: int) -> Any:
    """A fitted scikit-learn pipeline.

    Args:
        features: [N, F].
        labels: [N], at least two classes.
        scale: squared distance at which two images are still similar; the kernel is exp(−d² / 4·scale).
        seed: draws the kernels.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    kernel = Nystroem(gamma=1 / (4 * max(scale, 1e-12)), n_components=min(KERNELS, len(features)), random_state=seed)
    with warnings.catch_warnings():
        # Fifty steps are enough for ranking; the last digits of the optimum are not worth minutes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(kernel, LogisticRegression(C=PENALTY, max_iter=50)).fit(features, labels)


def probabilities(model: Any, features: Floats, classes: int) -> NDArray[np.float64]:
    """Probabilities [N, classes]; 0 for classes the model never saw."""
    result = np.zeros((len(features), classes))
    result[:, model.classes_] = model.predict_proba(features)
    return result
