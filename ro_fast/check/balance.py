"""Class balance: classes that are missing, rare, or have a different share in test than in train."""

from __future__ import annotations

import numpy as np

from ro_fast.check.finding import Finding, images, some
from ro_fast.check.images import Images

WARNING, SERIOUS = 3.0, 10.0  # size of the largest class over that of the smallest
FEW = 10  # training images per class, below which nothing can be learnt or said about it
RARE = 50  # training images, below which a class is rare even where all others are too
FEW_TEST = 100  # test images, below which accuracy is known to ten points at best
LISTED = 20  # rare classes named with what the split gives them
SHARE_P, SHARE_POINTS = 1e-3, 0.05  # classes have different shares in test: p of the chi-squared test, and least difference


def balance(view: Images) -> list[Finding]:
    """Findings on class counts; if nothing is wrong, one of them reports the counts."""
    train = np.bincount(view.y_train, minlength=view.classes)
    test = np.bincount(view.y_test, minlength=view.classes)
    return [
        _ratio(view, train),
        *_split(view, train, test),
        *_missing(view, train, test),
        *_few(view, train, test),
        *_other_shares(view, train, test),
    ]


def _ratio(view: Images, train: np.ndarray) -> Finding:
    present = train[train > 0]
    ratio = present.max() / present.min()
    severity = "serious" if ratio >= SERIOUS else "warning" if ratio >= WARNING else "info"
    small = np.flatnonzero((train > 0) & (train <= train.max() / WARNING))
    spread = f"training classes have {present.min()} to {present.max()} images"
    if severity == "info":
        advice = "Nothing to do."
    else:
        spread += f", {ratio:.1f} times as many in the largest as in the smallest; small classes: {some(view.names(small))}"
        advice = (
            "Collect more images of the small classes, or give them more weight in the loss. Check robust accuracy per class: "
            "the mean hides that small classes suffer first."
        )
    lacking = int((np.ceil(train.max() / WARNING) - train[small]).sum()) if severity != "info" else 0
    share, spread = len(small) / len(present), spread[0].upper() + spread[1:] + "."
    return Finding("imbalance", severity, len(small), share, spread, advice, labels=max(lacking, 0))


def _split(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    """What the split into training and validation leaves the rare classes."""
    rare = np.flatnonzero((train > 0) & ((train <= train.max() / WARNING) | (train < RARE)))
    if not len(rare):
        return []
    validation = np.bincount(view.y_train[view.validates], minlength=view.classes)
    rest = train - validation
    told = [f"{view.data.class_name(int(c))} {rest[c]} / {validation[c]} / {test[c]}" for c in rare[np.argsort(train[rare])]]
    message = f"The split gives the rare classes these images to train on / validate with / test with: {some(told, LISTED)}."
    short = rare[(rest[rare] < FEW) | (validation[rare] < 2) | (test[rare] < FEW)]
    if not len(short):
        return [Finding("imbalance", "info", 0, 0.0, message, "Nothing to do.")]
    worst = short[test[short].argmin()]
    name, count = view.data.class_name(int(worst)), int(test[worst])
    if count:
        half = min(98 / np.sqrt(count), 100)  # 1.96 standard errors of a share of one half, in points
        message += f" With the {images(count, 'test image')} of {name}, its accuracy is uncertain by up to {half:.0f} points."
    advice = "Collect more images of these classes, or leave them out of comparisons by class; validation can't choose an epoch "
    advice += "for a class that it hardly has."
    labels = int(sum(max(0, FEW - n) for counts in (rest, test) for n in counts[short]))
    return [Finding("imbalance", "warning", len(short), len(short) / np.count_nonzero(train), message, advice, labels=labels)]


def _missing(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    found = []
    for absent, where, advice in (
        (np.flatnonzero((train == 0) & (test > 0)), "training", "Add images of it to train/, or remove it from test/."),
        (
            np.flatnonzero((test == 0) & (train > 0)),
            "test",
            "Hold out some of its images for the test: its accuracy is currently unknown.",
        ),
    ):
        if len(absent):
            message = f"There is no {where} image of class {some(view.names(absent))}."
            found.append(Finding("imbalance", "serious", len(absent), len(absent) / len(train), message, advice))
    return found


def _few(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    found = []
    few = np.flatnonzero((train > 0) & (train < FEW))
    if len(few):
        severity = "serious" if len(few) == np.count_nonzero(train) else "warning"
        message = f"Fewer than {FEW} training images in class {some(view.names(few))}; "
        message += f"{images(int(train.sum()), 'training image')} in total."
        advice = "Collect more: with so few images, the other findings and any accuracy are guesses."
        found.append(
            Finding("imbalance", severity, int(train[few].sum()), float(train[few].sum() / train.sum()), message, advice)
        )
    if test.sum() < FEW_TEST:
        half = 98 / np.sqrt(test.sum())  # 1.96 standard errors of a share of one half, in points
        message = (
            f"With only {images(int(test.sum()), 'test image')}, test accuracy is uncertain by up to {min(half, 100):.0f} points."
        )
        advice = f"Hold out at least {FEW_TEST} test images before comparing anything."
        found.append(Finding("imbalance", "warning", int(test.sum()), 1.0, message, advice))
    return found


def _other_shares(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    from scipy.stats import chi2_contingency

    both = (train > 0) & (test > 0)
    if both.sum() < 2:
        return []
    ours, theirs = (counts[both] / counts[both].sum() for counts in (train, test))
    difference = np.abs(ours - theirs)
    p = chi2_contingency(np.stack([train[both], test[both]])).pvalue
    if p >= SHARE_P or difference.max() < SHARE_POINTS:
        return []
    worst = int(difference.argmax())
    name = view.data.class_name(int(np.flatnonzero(both)[worst]))
    common = "" if both.all() else " of the classes present in both"
    message = (
        f"Class {name} is {100 * ours[worst]:.1f} % of training but {100 * theirs[worst]:.1f} % of test "
        f"images{common}; no other share differs by more."
    )
    advice = "Decide which class shares the deployed model will face and draw the test images accordingly; report accuracy by "
    advice += "class."
    return [Finding("shift", "warning", int(both.sum()), float(difference.max()), message, advice)]
