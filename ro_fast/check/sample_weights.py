"""Turns a data check's label scores into a weight for each training image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ro_fast.data import ImageData
from ro_fast.data.check_file import scores

AUTO = "auto"


def weights_of(path: str, data: ImageData) -> Tensor:
    """The probability that each training label is right, [N] in [0, 1], from ``label_error_score`` of a check.json.

    Scores are larger for more suspect labels; their unit doesn't matter. A mixture of two normal distributions is fitted to
    them, and the weight is the posterior of the one with the lower mean (as Arazo et al. 2019, arXiv 1904.11238, and DivideMix,
    Li et al. 2020, arXiv 2002.07394, do with losses), made decreasing in the score: the wider of two normals wins on both sides.

    Args:
        path: the check.json of the same data; "auto" computes the scores here, from the training images alone.
        data: the images and labels to be trained on.

    Raises:
        InputError: if the file is missing, not a check, or of other data.
    """
    found = _made(data) if path == AUTO else scores(Path(path).expanduser(), data)
    return _posterior(found).to(data.y_train.device, torch.float32)


_scores: dict[str, Tensor] = {}


def _made(data: ImageData) -> Tensor:
    """The check's scores, computed once per process for the same data."""
    from ro_fast.check.images import Images
    from ro_fast.check.label_errors import label_errors

    key = data.fingerprint()
    if key not in _scores:
        _scores[key] = torch.from_numpy(label_errors(Images(data.to("cpu"))).score).double()
    return _scores[key]


def _posterior(scores: Tensor) -> Tensor:
    if scores.max() == scores.min():
        return torch.ones_like(scores)
    from sklearn.mixture import GaussianMixture

    column = ((scores - scores.min()) / (scores.max() - scores.min()))[:, None].numpy()
    mixture = GaussianMixture(2, reg_covar=1e-4, n_init=3, random_state=0).fit(column)
    clean = torch.from_numpy(mixture.predict_proba(column)[:, mixture.means_.argmin()])
    order = scores.argsort()
    clean[order] = clean[order].cummin(0).values
    return clean
