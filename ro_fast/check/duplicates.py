"""Exact and near duplicates within training images, and between training and test images (leakage).

Near duplicates are images whose distance, after each is standardised to mean 0 and standard deviation 1, is below a sixth of
the median distance to the tenth nearest other image: much closer than images of one kind are. Brightness and contrast cancel
out; shifted, rotated or mirrored copies are not found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ro_fast.check.finding import NOTHING_TO_DO, Example, Finding, Image, Reason, are, by_share, images, of_label, percent
from ro_fast.check.images import Floats, Images, Ints, components, nearest_others
from ro_fast.data.stored_images import in_memory
from ro_fast.said import COMMA, SEMICOLON, Said, together

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
        *_same(groups, view, labels),
        *_near(groups, view, labels),
        *_leakage(groups, view, labels),
    ]
    if not found:
        message = Said("duplicate.none", "No image occurs twice, either within training or across training and test.")
        found.append(Finding("duplicate", "info", 0, 0.0, message, NOTHING_TO_DO))
    exact = Said("duplicate.exact", "exact: equal in every value")
    if groups.threshold is None:
        near = Said("duplicate.near_unknown", "near: not checked with fewer than {least} different images", least=LEAST)
    else:
        near = Said(
            "duplicate.near",
            "near: closer than {threshold} standard deviations per pixel, a sixth of the median distance to the {number}th "
            "nearest image, ignoring brightness and contrast",
            threshold=f"{groups.threshold:.3f}",
            number=REFERENCE,
        )
    return found, together([exact, near], SEMICOLON)


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
    rows = (row for x in (in_memory(view.data.x_train), view.data.x_test) for row in x.flatten(1).contiguous().numpy())
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


def _same(groups: Groups, view: Images, labels: Names) -> list[Finding]:
    train = len(view.y_train)
    agree: list[Ints] = []
    conflict: list[Ints] = []
    for group in _members(groups.exact[:train]):
        (agree if len(np.unique(labels[group])) == 1 else conflict).append(group)
    found = []
    if conflict:
        # If the labels of equal images differ, none can be trusted.
        rows = sorted(int(i) for group in conflict for i in group)
        share = len(rows) / train
        message = Said(
            "duplicate.conflict",
            "{images} ({share}) occur more than once with different labels{across}.",
            images=images(len(rows), "training image"),
            share=percent(share),
            across=_across(conflict, view),
        )
        advice = Said(
            "duplicate.conflict_do", "Find the correct label of each and keep one copy; no model can learn both labels."
        )
        severity = by_share(share, warning=0.0, serious=0.01)
        reasons = {
            ("train", int(i)): Reason(
                "find the right label and keep one copy", partner=("train", int(group[labels[group] != labels[i]][0]))
            )
            for group in conflict
            for i in group
        }
        shown = [_pair(group, labels, train) for group in conflict]
        found.append(
            Finding("duplicate", severity, len(rows), share, message, advice, rows, [], shown, reasons, labels=len(rows))
        )
    if agree:
        rows = sorted(int(i) for group in agree for i in group[1:])  # the first stays
        share = len(rows) / train
        message = Said(
            "duplicate.copies",
            "{images} ({share}) {copies} of another with the same label{across}.",
            images=images(len(rows), "training image"),
            share=percent(share),
            copies="is a copy" if len(rows) == 1 else "are copies",
            across=_across(agree, view),
        )
        advice = Said(
            "duplicate.copies_do",
            "Remove the copies: they count double in training, and they bias validation if one ends up there.",
        )
        severity = _at_least_warning(by_share(share, warning=0.01, serious=0.1), agree, view)
        reasons = _copies(agree, "remove this copy, keep the first")
        shown = [_pair(group, labels, train) for group in agree]
        found.append(Finding("duplicate", severity, len(rows), share, message, advice, rows, [], shown, reasons))
    return found


def _near(groups: Groups, view: Images, labels: Names) -> list[Finding]:
    alike = []
    for group in _members(groups.near[: len(view.y_train)]):
        _, first = np.unique(groups.exact[group], return_index=True)
        if len(first) > 1:
            alike.append(group[np.sort(first)])  # copies are reported as exact duplicates
    if not alike:
        return []
    rows = sorted(int(i) for group in alike for i in group[1:])
    share = len(rows) / len(view.y_train)
    conflicts = sum(len(np.unique(labels[group])) > 1 for group in alike)
    differ = Said(
        "near_duplicate.differ", "; labels differ in {n} of {groups}", n=conflicts, groups=images(len(alike), "group")
    )
    message = Said(
        "near_duplicate.found",
        "{images} ({share}) {are} nearly identical to another{differ}{across}.",
        images=images(len(rows), "training image"),
        share=percent(share),
        are=are(len(rows)),
        differ=differ if conflicts else "",
        across=_across(alike, view),
    )
    advice = Said(
        "near_duplicate.do",
        "Keep one of each group (frames of one video, photographs of one object), and never split a group across train and test.",
    )
    severity = _at_least_warning(by_share(share, warning=0.005, serious=0.1), alike, view)
    reasons = _copies(alike, "look at both; keep one, or keep both in one part")
    shown = [_pair(group, labels, len(view.y_train)) for group in alike]
    return [Finding("near_duplicate", severity, len(rows), share, message, advice, rows, [], shown, reasons, labels=len(rows))]


def _copies(groups: list[Ints], action: str) -> dict[Image, Reason]:
    """Of all but the first of each group."""
    return {
        ("train", int(i)): Reason(action, partner=("train", int(group[0]))) for group in groups for i in group[1:]
    }


def _across(groups: list[Ints], view: Images) -> str:
    """How many groups lie on both sides of the split into training and validation, in words."""
    count = _split_groups(groups, view)
    if not count:
        return ""
    return Said(
        "duplicate.across",
        "; this split trains on some and validates with others of {groups}, which flatters validation",
        groups=images(count, "group"),
    )


def _split_groups(groups: list[Ints], view: Images) -> int:
    return sum(len(np.unique(view.validates[group])) > 1 for group in groups)


def _at_least_warning(severity: str, groups: list[Ints], view: Images) -> str:
    """A single copy that is validated with leaks, however few there are."""
    return "warning" if severity == "info" and _split_groups(groups, view) else severity


def _leakage(groups: Groups, view: Images, labels: Names) -> list[Finding]:
    train, found = len(view.y_train), []
    leaked: set[int] = set()
    for kind, group in (("identical", groups.exact), ("nearly identical", groups.near)):
        inside, outside, pairs = [], [], []
        reasons: dict[Image, Reason] = {}
        for members in _members(group):
            ours, theirs = members[members < train], [int(i) for i in members[members >= train] if int(i) not in leaked]
            if len(ours) and theirs:
                inside += ours.tolist()
                outside += theirs
                pairs.append(_pair(np.array([ours[0], theirs[0]]), labels, train))
                first: Image = ("test", theirs[0] - train)
                reasons |= {("train", int(i)): Reason("remove it from training", partner=first) for i in ours}
                other: Image = ("train", int(ours[0]))
                kept = Reason("keep it, once its copies have left training", partner=other)
                reasons |= {("test", i - train): kept for i in theirs}
        leaked.update(outside)
        if not outside:
            continue
        share = len(outside) / (len(labels) - train)
        message = Said(
            f"leakage.{kind.replace(' ', '_')}",
            f"{{images}} ({{share}}) {{are}} {kind} to a training image.",
            images=images(len(outside), "test image"),
            share=percent(share),
            are=are(len(outside)),
        )
        advice = Said("leakage.do", "Remove these images from training: test accuracy on them measures memorisation.")
        severity = by_share(share, warning=0.0, serious=0.01)
        test = sorted(i - train for i in outside)
        found.append(Finding("leakage", severity, len(outside), share, message, advice, sorted(inside), test, pairs, reasons))
    return found


def _pair(group: Ints, labels: Names, train: int) -> Example:
    a, b = (int(i) for i in group[:2])
    names = tuple(("train", i) if i < train else ("test", i - train) for i in (a, b))
    both = Said("labels", "labels {a} and {b}", a=labels[a], b=labels[b])
    caption = of_label(labels[a]) if labels[a] == labels[b] else both
    total = Said("in_total", "{n} in total", n=len(group)) if len(group) > 2 else ""
    return Example(names, together([caption, total], COMMA))
