"""From a data check's label scores to a weight for each training image."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from ro_fast.data import ImageData
from ro_fast.errors import InputError

AUTO = "auto"


def weights_of(path: str, data: ImageData) -> Tensor:
    """The chance that each training label is right, [N] in [0, 1], from ``label_error_score`` of a check.json.

    Scores are larger for more suspect labels; their unit doesn't matter. A mixture of two normal distributions is fitted to them,
    and the weight is the posterior of the one with the lower mean (as Arazo et al. 2019, arXiv 1904.11238, and DivideMix, Li
    et al. 2020, arXiv 2002.07394, do with losses), made to fall with the score: the wider of two normals wins on both sides.

    Args:
        path: the check.json of the same data; "auto" makes the scores here, as ro-fast check with its default seed does.
        data: the images and labels to be trained on.

    Raises:
        InputError: where the file is missing, no check, or of other data.
    """
    scores = _made(data) if path == AUTO else _read(path, data)
    return _posterior(torch.tensor(scores, dtype=torch.float64)).to(data.y_train.device, torch.float32)


_scores: dict[str, list[float]] = {}


def _made(data: ImageData) -> list[float]:
    """The check's scores, made once a process for the same data."""
    from ro_fast.check.images import Images
    from ro_fast.check.label_errors import label_errors

    key = data.fingerprint()
    if key not in _scores:
        _scores[key] = label_errors(Images(data.to("cpu"))).score.tolist()
    return _scores[key]


def _read(path: str, data: ImageData) -> list[float]:
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        scores: list[float] = found["label_error_score"]
        finite = all(isinstance(score, (int, float)) and math.isfinite(score) for score in scores)
    except OSError as error:
        raise InputError(f"method.from={path} can't be read ({error.strerror}); ro-fast check writes it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"method.from={path} is no check.json with a label_error_score; ro-fast check writes it") from error
    if not finite or len(scores) != len(data.y_train):
        what = "is not all numbers" if not finite else f"has {len(scores)} values"
        needed = f"one for each of {len(data.y_train)} training images is needed"
        raise InputError(f"method.from={path}: label_error_score {what}; {needed}")
    if found.get("fingerprint") not in (None, data.fingerprint()):
        raise InputError(f"method.from={path} was made of other data; check the same data= with the same sizes, noise and seed")
    return scores


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
