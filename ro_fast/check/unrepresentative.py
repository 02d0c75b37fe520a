"""Training images unlike the test images, by their distance to the nearest test images, whatever their labels.

If both parts were drawn alike, a training image would lie as far from its nearest test images as test images do from theirs.
Flagged are images farther away than all but one in a thousand test images; the number expected by chance follows from ranks.
"""

from __future__ import annotations

import numpy as np

from ro_fast.check.finding import MORE_TEST_IMAGES, Example, Finding, Reason, are, images, percent
from ro_fast.check.images import Images, nearest, nearest_others
from ro_fast.said import Said

K = 5  # nearest test images whose distances are averaged
TAIL = 1000  # one test image in this many may lie farther
LEAST = 50  # test images, below which nothing is reported
P = 0.01  # of as many flagged images by chance


def unrepresentative(view: Images) -> list[Finding]:
    """The finding on training images unlike test images."""
    from scipy.stats import hypergeom

    train, test = view.features
    n, m = len(train), len(test)
    if m < LEAST:
        few = images(m, "test image")
        message = Said("unrepresentative.few", "{images} are too few to characterise the test images.", images=few)
        return [Finding("unrepresentative", "info", 0, 0.0, message, MORE_TEST_IMAGES)]
    own = nearest_others(test, K, "test images among themselves")[0].mean(1)
    far = nearest(train, test, K, "training against test images")[0].mean(1)
    allowed = m // TAIL + 1
    limit = np.sort(own)[-allowed]
    flagged = np.flatnonzero(far > limit)
    flagged = flagged[np.argsort(-far[flagged], kind="stable")]
    count = len(flagged)
    # Of the count + allowed farthest of all images, at most `allowed` are test images.
    p = hypergeom.cdf(allowed, n + m, m, count + allowed) if count else 1.0
    expected = allowed * n / (m + 1)
    share = count / n
    # Beyond the largest distance of a test image, or the second largest, and so on.
    than = Said("unrepresentative.all_but", "all but {n} of these are", n=allowed - 1, rank=allowed)
    values = {
        "than": than if allowed > 1 else Said("unrepresentative.any", "any of these is"),
        "neighbours": K,
        "expected": f"{expected:.1f}",
    }
    if count:
        message = Said(
            "unrepresentative.found",
            "{images} ({share}) {are} farther from the {neighbours} nearest test images than {than}; {expected} would be "
            "expected by chance.",
            images=images(count, "training image"),
            share=percent(share),
            are=are(count),
            **values,
        )
    else:
        message = Said(
            "unrepresentative.none",
            "No training image is farther from the {neighbours} nearest test images than {than}; {expected} would be expected by "
            "chance.",
            **values,
        )
    severity, advice = "info", Said("unrepresentative.sound", "No more than expected by chance; nothing to do.")
    if p < P and count > 2 * expected:
        severity = "serious" if share >= 0.1 else "warning"
        advice = Said(
            "unrepresentative.do",
            "Check whether they belong: another object, a damaged image, or a rare kind that the test images lack.",
        )
    indices, name = sorted(flagged.tolist()), view.data.class_name

    def caption(i: int) -> str:
        shown = {"name": name(view.y_train[i]), "times": f"{far[i] / np.median(own):.1f}"}
        return Said("unrepresentative.far", "label {name}, {times} times the usual distance", **shown)

    examples = [Example((("train", i),), caption(i)) for i in flagged.tolist()]
    reasons = {
        ("train", int(i)): Reason("look whether it belongs to the task", score=float(far[i] / np.median(own))) for i in flagged
    }
    labels = 0 if severity == "info" else count
    return [Finding("unrepresentative", severity, count, share, message, advice, indices, [], examples, reasons, labels=labels)]
