"""Class balance: classes that are missing, rare, or have a different share in test than in train."""

from __future__ import annotations

import numpy as np

from ro_fast.check.finding import NOTHING_TO_DO, Finding, images, some
from ro_fast.check.images import Images
from ro_fast.said import Said, together

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
    sizes = {"least": present.min(), "most": present.max()}
    share = len(small) / len(present)
    if severity == "info":
        message = Said("imbalance.even", "Training classes have {least} to {most} images.", **sizes)
        return Finding("imbalance", severity, len(small), share, message, NOTHING_TO_DO)
    message = Said(
        "imbalance.ratio",
        "Training classes have {least} to {most} images, {ratio} times as many in the largest as in the smallest; small classes: "
        "{names}.",
        **sizes,
        ratio=f"{ratio:.1f}",
        names=some(view.names(small)),
    )
    advice = Said(
        "imbalance.ratio_do",
        "Collect more images of the small classes, or give them more weight in the loss. Check robust accuracy per class: "
        "the mean hides that small classes suffer first.",
    )
    lacking = int((np.ceil(train.max() / WARNING) - train[small]).sum())
    return Finding("imbalance", severity, len(small), share, message, advice, labels=max(lacking, 0))


def _split(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    """What the split into training and validation leaves the rare classes."""
    rare = np.flatnonzero((train > 0) & ((train <= train.max() / WARNING) | (train < RARE)))
    if not len(rare):
        return []
    validation = np.bincount(view.y_train[view.validates], minlength=view.classes)
    rest = train - validation
    told = [f"{view.data.class_name(int(c))} {rest[c]} / {validation[c]} / {test[c]}" for c in rare[np.argsort(train[rare])]]
    message: str = Said(
        "imbalance.split",
        "The split gives the rare classes these images to train on / validate with / test with: {told}.",
        told=some(told, LISTED),
    )
    short = rare[(rest[rare] < FEW) | (validation[rare] < 2) | (test[rare] < FEW)]
    if not len(short):
        return [Finding("imbalance", "info", 0, 0.0, message, NOTHING_TO_DO)]
    worst = short[test[short].argmin()]
    name, count = view.data.class_name(int(worst)), int(test[worst])
    if count:
        half = min(98 / np.sqrt(count), 100)  # 1.96 standard errors of a share of one half, in points
        uncertain = Said(
            "imbalance.split_uncertain",
            "With the {images} of {name}, its accuracy is uncertain by up to {half} points.",
            images=images(count, "test image"),
            name=name,
            half=f"{half:.0f}",
        )
        message = together([message, uncertain])
    advice = Said(
        "imbalance.split_do",
        "Collect more images of these classes, or leave them out of comparisons by class; validation can't choose an epoch "
        "for a class that it hardly has.",
    )
    labels = int(sum(max(0, FEW - n) for counts in (rest, test) for n in counts[short]))
    return [Finding("imbalance", "warning", len(short), len(short) / np.count_nonzero(train), message, advice, labels=labels)]


def _missing(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    found = []
    for absent, where, advice in (
        (
            np.flatnonzero((train == 0) & (test > 0)),
            "training",
            Said("imbalance.no_training_do", "Add images of it to train/, or remove it from test/."),
        ),
        (
            np.flatnonzero((test == 0) & (train > 0)),
            "test",
            Said("imbalance.no_test_do", "Hold out some of its images for the test: its accuracy is currently unknown."),
        ),
    ):
        if len(absent):
            names = some(view.names(absent))
            message = Said(f"imbalance.no_{where}", f"There is no {where} image of class {{names}}.", names=names)
            found.append(Finding("imbalance", "serious", len(absent), len(absent) / len(train), message, advice))
    return found


def _few(view: Images, train: np.ndarray, test: np.ndarray) -> list[Finding]:
    found = []
    few = np.flatnonzero((train > 0) & (train < FEW))
    if len(few):
        severity = "serious" if len(few) == np.count_nonzero(train) else "warning"
        message = Said(
            "imbalance.few",
            "Fewer than {few} training images in class {names}; {all} in total.",
            few=FEW,
            names=some(view.names(few)),
            all=images(int(train.sum()), "training image"),
        )
        advice = Said(
            "imbalance.few_do", "Collect more: with so few images, the other findings and any accuracy are guesses."
        )
        found.append(
            Finding("imbalance", severity, int(train[few].sum()), float(train[few].sum() / train.sum()), message, advice)
        )
    if test.sum() < FEW_TEST:
        half = 98 / np.sqrt(test.sum())  # 1.96 standard errors of a share of one half, in points
        message = Said(
            "imbalance.few_test",
            "With only {images}, test accuracy is uncertain by up to {half} points.",
            images=images(int(test.sum()), "test image"),
            half=f"{min(half, 100):.0f}",
        )
        advice = Said(
            "imbalance.few_test_do", "Hold out at least {least} test images before comparing anything.", least=FEW_TEST
        )
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
    message = Said(
        "imbalance.shares" if both.all() else "imbalance.shares_of_common",
        "Class {name} is {ours} % of training but {theirs} % of test images"
        f"{'' if both.all() else ' of the classes present in both'}; no other share differs by more.",
        name=name,
        ours=f"{100 * ours[worst]:.1f}",
        theirs=f"{100 * theirs[worst]:.1f}",
    )
    advice = Said(
        "imbalance.shares_do",
        "Decide which class shares the deployed model will face and draw the test images accordingly; report accuracy by class.",
    )
    return [Finding("shift", "warning", int(both.sum()), float(difference.max()), message, advice)]
