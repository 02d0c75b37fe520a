"""Class-balanced subsets and redrawn labels, each determined by its own random stream."""

from __future__ import annotations

import numpy as np

STREAMS = ("held_out", "test", "validation", "train", "noise", "bias")


def stream(seed: int, name: str) -> np.random.Generator:
    """Returns the generator for one decision, so that changing one decision does not affect another."""
    return np.random.default_rng([seed, STREAMS.index(name)])


def balanced_subset(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the sorted indices [size] of a random subset whose class counts are as even as the labels [N] allow.

    Every class contributes its first sample before any contributes its second, and so on; from one state of rng, a larger subset
    contains the smaller ones.
    """
    order = rng.permutation(len(labels))
    shuffled = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled == label
        turn[members] = np.arange(members.sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])


def validation_subset(labels: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Returns the sorted indices [size] of images to validate with, and whether they are as many of every class.

    They are, as far as the labels [N] allow, unless this took from some class more than half of what it would have left for
    training in proportion: N_c (N - size) / N of its N_c images. Then each class gives its share instead, but at least one image
    if size is at least the number of classes, and never its last one.
    """
    even = balanced_subset(labels, size, rng)
    total = np.bincount(labels)
    left = total - np.bincount(labels[even], minlength=len(total))
    if (2 * left * len(labels) >= total * (len(labels) - size)).all():
        return even, True
    share = size * total / len(labels)
    counts = np.minimum(total > 1, size >= np.count_nonzero(total)).astype(np.int64)
    while counts.sum() < size:
        counts[np.where(counts < total - 1, share - counts, -np.inf).argmax()] += 1
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(total))]
    return np.sort(np.concatenate([rows[:count] for rows, count in zip(members, counts, strict=True)])), False


def held_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the sorted indices of a fifth of each class's images, at least one, drawn at random."""
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(1, len(rows) // 5)] for rows in members]))


def matched_subsets(a: np.ndarray, b: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted indices of random subsets of two sets of labels, with equally many samples of each class in both.

    A class contributes ``size // classes`` samples, or as many as both sets have of it.
    """
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    classes = np.union1d(a, b)
    for label in classes:
        members = [rng.permutation(np.flatnonzero(labels == label)) for labels in (a, b)]
        n = min(size // len(classes), *map(len, members))
        for subset, member in zip(chosen, members, strict=True):
            subset.append(member[:n])
    return np.sort(np.concatenate(chosen[0])), np.sort(np.concatenate(chosen[1]))


def redraw_labels(
    labels: np.ndarray,  # [N] int64
    share: float,
    num_classes: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Redraws a share of the labels, uniformly over all classes; returns labels [N] and the mask of those redrawn.

    From one state of rng, a larger share redraws the same labels, to the same classes, and more.
    """
    redrawn = rng.permutation(len(labels)) < round(share * len(labels))
    drawn = rng.integers(num_classes, size=len(labels))
    return np.where(redrawn, drawn, labels), redrawn
