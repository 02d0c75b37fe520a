"""Exact and near duplicates within training images, and between training and test images (leakage).

Near duplicates are images whose distance, after each is standardised to mean 0 and standard deviation 1, is below a sixth of
the median distance to the tenth nearest other image: much closer than images of one kind are. Brightness and contrast cancel
out; shifted, rotated or mirrored copies are not found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ro_fast.check.finding import Example, Finding, by_share, images, percent
from ro_fast.check.images import Floats, Images, Ints, components, nearest_others

NEAR = 1 / 6  # of the median distance to the REFERENCE-th nearest other image
REFERENCE = 10
LEAST = 20  # different images, below which that median is meaningless


Names = NDArray[np.str_]


@dataclass(frozen=True)
class Groups:
    """Which images are the same: training images are numbered 0..N-1, test images N..N+M-1."""

    exact: Ints  # [N + M] group number of identical images
    near: Ints  # [N + M] group number of near or identical images
    threshold: float | None  # largest distance of near images, in standard deviations per pixel; None: too few images to tell


def duplicates(view: Images) -> tuple[list[Finding], str]:
    """Findings on duplicates and leakage, and the criterion in words."""
    groups = find_groups(view)
    labels = np.array(view.names(np.concatenate([view.y_train, view.y_test])))
    found = [
        *_same(groups.exact, labels, len(view.y_train)),
        *_near(groups, labels, len(view.y_train)),
        *_leakage(groups, labels, len(view.y_train)),
    ]
    if not found:
        message = "No image occurs twice, either within training or across training and test."
        found.append(Finding("duplicate", "info", 0, 0.0, message, "Nothing to do."))
    criterion = "exact: equal in every value; "
    criterion += (
        f"near: closer than {groups.threshold:.3f} standard deviations per pixel, a sixth of the median distance to the "
        f"{REFERENCE}th nearest image, ignoring brightness and contrast"
        if groups.threshold is not None
        else f"near: not checked with fewer than {LEAST} different images"
    )
    return found, criterion


def find_groups(view: Images) -> Groups:
    """Groups of identical and of near-identical images over both parts."""
    exact = _identical(view)
    _, first, number = np.unique(exact, return_index=True, return_inverse=True)
    if len(first) < LEAST:
        return Groups(number, number, None)
    vectors = np.concatenate([view.train, view.test])[first]
    edges, threshold = _near_pairs(_standardised(vectors), view.seed)
    return Groups(number, _connected(edges, len(first))[number], threshold / np.sqrt(vectors.shape[1]))


def _identical(view: Images) -> Ints:
    digests: dict[bytes, int] = {}
    rows = (row for x in (view.data.x_train, view.data.x_test) for row in x.flatten(1).contiguous().numpy())
    return np.array([digests.setdefault(hashlib.blake2b(row.data, digest_size=16).digest(), len(digests)) for row in rows])


def _standardised(vectors: Floats) -> Floats:
    centred = vectors - vectors.mean(1, keepdims=True)
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-6)


def _near_pairs(vectors: Floats, seed: int) -> tuple[Ints, float]:
    """Pairs [P, 2] below the threshold, and the threshold."""
    (features,) = components(vectors, seed=seed)
    distances, rows = nearest_others(features, REFERENCE, "near duplicates")
    threshold = NEAR * float(np.median(distances[:, -1]))
    a, column = np.nonzero(distances <= threshold)  # principal components only shorten distances, so none is missed
    b = rows[a, column]
    close = np.linalg.norm(vectors[a] - vectors[b], axis=1) <= threshold
    return np.stack([a[close], b[close]], axis=1), threshold


def _connected(edges: Ints, count: int) -> Ints:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def _members(group: Ints) -> list[Ints]:
    """Groups of two or more, each sorted, in the order of their first image."""
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: part[0])


def _same(exact: Ints, labels: Names, train: int) -> list[Finding]:
    agree: list[int] = []
    conflict: list[int] = []
    pairs: dict[str, list[Any]] = {"agree": [], "conflict": []}
    for group in _members(exact[:train]):
        same = len(np.unique(labels[group])) == 1
        # Of equal images with one label the first stays; if their labels differ, none can be trusted.
        (agree if same else conflict).extend(group[1:].tolist() if same else group.tolist())
        pairs["agree" if same else "conflict"].append(_pair(group, labels, train))
    found = []
    if conflict:
        message = f"{images(len(conflict), 'training image')} ({percent(len(conflict) / train)}) occur more than once with "
        message += "different labels."
        advice = "Find the correct label of each and keep one copy; no model can learn both labels."
        severity = by_share(len(conflict) / train, warning=0.0, serious=0.01)
        found.append(
            Finding(
                "duplicate",
                severity,
                len(conflict),
                len(conflict) / train,
                message,
                advice,
                sorted(conflict),
                [],
                pairs["conflict"],
            )
        )
    if agree:
        copies = "is a copy" if len(agree) == 1 else "are copies"
        message = f"{images(len(agree), 'training image')} ({percent(len(agree) / train)}) {copies} of another with "
        message += "the same label."
        advice = "Remove the copies: they count double in training, and they bias validation if one ends up there."
        severity = by_share(len(agree) / train, warning=0.01, serious=0.1)
        found.append(
            Finding("duplicate", severity, len(agree), len(agree) / train, message, advice, sorted(agree), [], pairs["agree"])
        )
    return found


def _near(groups: Groups, labels: Names, train: int) -> list[Finding]:
    extra, pairs, conflicts = [], [], 0
    for group in _members(groups.near[:train]):
        _, first = np.unique(groups.exact[group], return_index=True)
        different = group[np.sort(first)]  # copies are reported as exact duplicates
        if len(different) > 1:
            extra.extend(different[1:].tolist())
            conflicts += len(np.unique(labels[different])) > 1
            pairs.append(_pair(different, labels, train))
    if not extra:
        return []
    share = len(extra) / train
    message = f"{images(len(extra), 'training image')} ({percent(share)}) {'is' if len(extra) == 1 else 'are'} nearly identical "
    message += "to another"
    message += f"; labels differ in {conflicts} of {images(len(pairs), 'group')}." if conflicts else "."
    advice = "Keep one of each group (frames of one video, photographs of one object), and never split a group across train and "
    advice += "test."
    severity = by_share(share, warning=0.005, serious=0.1)
    return [Finding("near_duplicate", severity, len(extra), share, message, advice, sorted(extra), [], pairs)]


def _leakage(groups: Groups, labels: Names, train: int) -> list[Finding]:
    found = []
    leaked: set[int] = set()
    for kind, group in (("identical", groups.exact), ("nearly identical", groups.near)):
        inside, outside, pairs = [], [], []
        for members in _members(group):
            ours, theirs = members[members < train], [int(i) for i in members[members >= train] if int(i) not in leaked]
            if len(ours) and theirs:
                inside += ours.tolist()
                outside += theirs
                pairs.append(_pair(np.array([ours[0], theirs[0]]), labels, train))
        leaked.update(outside)
        if not outside:
            continue
        share = len(outside) / (len(labels) - train)
        verb = f"{'is' if len(outside) == 1 else 'are'} {kind} to"
        message = f"{images(len(outside), 'test image')} ({percent(share)}) {verb} a training image."
        advice = "Remove these images from training: test accuracy on them measures memorisation."
        severity = by_share(share, warning=0.0, serious=0.01)
        test = sorted(i - train for i in outside)
        found.append(Finding("leakage", severity, len(outside), share, message, advice, sorted(inside), test, pairs))
    return found


def _pair(group: Ints, labels: Names, train: int) -> Example:
    a, b = (int(i) for i in group[:2])
    names = tuple(("train", i) if i < train else ("test", i - train) for i in (a, b))
    caption = f"label {labels[a]}" if labels[a] == labels[b] else f"labels {labels[a]} and {labels[b]}"
    if len(group) > 2:
        caption += f", {len(group)} in total"
    return Example(names, caption)
