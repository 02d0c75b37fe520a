"""Likely label errors, according to classifiers that never saw the image.

For each training image, two out-of-sample estimates of the class are averaged: the class frequencies among its nearest
other training images, and the probabilities of a kernel classifier trained on the other folds. The score is
``1 − p(given label)``, from the self-confidence of confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, arXiv
1911.00068). An image is suspect if another class gets ten times the probability of its label.

cleanlab, the reference implementation, is under the AGPL-3.0; the score is one line, so this Apache-2.0 package avoids it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ro_fast.check import classifier
from ro_fast.check.finding import NOTHING_TO_DO, Example, Finding, Reason, are, by_share, images, percent
from ro_fast.check.images import Images
from ro_fast.check.progress import Ticker
from ro_fast.said import Said

RATIO = 10.0  # how many times more probable another class must be
LEAST = 50  # training images, below which nothing is called suspect
MANY = 10_000  # images above which three folds are used instead of five
BLIND = 2.0  # the classifiers must be this many times as accurate as the largest class's share, or halfway to perfect


@dataclass(frozen=True)
class LabelErrors:
    """The estimates of classifiers that did not see the image."""

    probabilities: NDArray[np.float64]  # [N, C]
    score: NDArray[np.float64]  # [N] in [0, 1], larger is more suspect
    accuracy: float  # fraction of given labels that are the most probable ones
    findings: list[Finding]


def label_errors(view: Images) -> LabelErrors:
    """Scores of all training labels, and the finding on suspect ones."""
    y, n = view.y_train, len(view.y_train)
    p = (_of_neighbours(view) + _of_folds(view)) / 2
    own = p[np.arange(n), y]
    accuracy = float((p.argmax(1) == y).mean())
    suspect = np.flatnonzero(own * RATIO < p.max(1))
    suspect = suspect[np.argsort(own[suspect], kind="stable")]
    return LabelErrors(p, 1 - own, accuracy, [_finding(view, p, suspect, accuracy)])


def _of_neighbours(view: Images) -> NDArray[np.float64]:
    _, rows = view.neighbours
    counts = np.bincount(view.y_train, minlength=view.classes)
    # A neighbourhood larger than a class would outvote it.
    k = min(rows.shape[1], max(1, int(np.median(counts[counts > 0])) // 4))
    p = np.full((len(rows), view.classes), 0.1 / view.classes)
    for column in rows[:, :k].T:
        p[np.arange(len(rows)), view.y_train[column]] += 1
    return p / p.sum(1, keepdims=True)


def _of_folds(view: Images) -> NDArray[np.float64]:
    from sklearn.model_selection import StratifiedKFold

    x, y = view.features[0], view.y_train
    result = np.tile(np.bincount(y, minlength=view.classes) / len(y), (len(y), 1))  # prior used if nothing can be fitted
    folds = min(3 if len(y) > MANY else 5, int(np.bincount(y).max()))
    if folds < 2:
        return result
    scale = float(np.median(view.neighbours[0][:, min(10, view.neighbours[0].shape[1]) - 1] ** 2))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=view.seed)
    ticker = Ticker("label errors, folds", folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds
        splits = list(splitter.split(x, y))
    for done, (rest, held_out) in enumerate(splits, start=1):
        if len(np.unique(y[rest])) > 1:
            model = classifier.fit(x[rest], y[rest], scale, view.seed)
            result[held_out] = classifier.probabilities(model, x[held_out], view.classes)
        ticker.tick(done)
    return result


def _finding(view: Images, p: NDArray[np.float64], suspect: NDArray[np.int64], accuracy: float) -> Finding:
    y, n, name = view.y_train, len(view.y_train), view.data.class_name
    largest = np.bincount(y).max() / n
    if n < LEAST or accuracy < min(BLIND * largest, (1 + largest) / 2):
        agree = Said("label_error.agree", "classifiers that agree with {share} of the labels", share=percent(accuracy))
        why = images(n, "training image") if n < LEAST else agree
        message = Said("label_error.blind", "Labels cannot be judged from {why}; the scores mean little.", why=why)
        advice = Said("label_error.blind_do", "Inspect a hundred random images of each class yourself.")
        return Finding("label_error", "info", 0, 0.0, message, advice)
    share = len(suspect) / n
    severity = by_share(share, warning=0.005, serious=0.05)
    message = Said(
        "label_error.suspect",
        "{labels} ({share}) {are} suspect: classifiers that did not see the image rate another class {ratio} times as probable.",
        labels=images(len(suspect), "training label"),
        share=percent(share),
        are=are(len(suspect)),
        ratio=f"{RATIO:.0f}",
    )
    advice = NOTHING_TO_DO
    if len(suspect) and severity == "info":
        advice = Said("label_error.few_do", "Few enough to inspect one by one; data.exclude leaves none of them out.")
    elif len(suspect):
        advice = Said(
            "label_error.suspect_do",
            "Inspect the suspects in this order, and correct or remove wrong labels; some will be correct labels of hard "
            "images. data.exclude=check.json leaves the suspects out of training and validation.",
        )
    captions = {
        i: Said("label_error.looks", "label {name}, looks like {other}", name=name(y[i]), other=name(p[i].argmax()))
        for i in suspect
    }
    examples = [Example((("train", int(i)),), captions[i]) for i in suspect]
    reasons = {
        ("train", int(i)): Reason(
            f"look at the label: {name(p[i].argmax())} is more probable; relabel the image or leave it out",
            score=float(1 - p[i, y[i]]),
        )
        for i in suspect
    }
    count = len(suspect)
    return Finding(
        "label_error", severity, count, share, message, advice, suspect.tolist(), [], examples, reasons, labels=count
    )
