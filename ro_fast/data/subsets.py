"""Class-balanced subsets and redrawn labels, each determined by a random stream of its own."""

from __future__ import annotations

import numpy as np

STREAMS = ("held_out", "test", "validation", "train", "noise", "bias")


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one decision, so that changing one decision does not shift another."""
    return np.random.default_rng([seed, STREAMS.index(name)])


def balanced_subset(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sorted indices [size] of a random subset whose class counts are as even as the labels [N] allow.

    Every class gives its first sample before any gives its second, and so on; from one state of rng, a larger subset
    holds the smaller ones.
    """
    order = rng.permutation(len(labels))
    shuffled = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled == label
        turn[members] = np.arange(members.sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])


def matched_subsets(a: np.ndarray, b: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of random subsets of two sets of labels, with as many samples of each class in both.

    A class gives ``size // classes`` samples, or as many as both sets have of it.
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
    """Draw a share of the labels anew, uniformly over all classes; return labels [N] and the mask of those redrawn.

    From one state of rng, a larger share redraws the same labels, to the same classes, and more.
    """
    redrawn = rng.permutation(len(labels)) < round(share * len(labels))
    drawn = rng.integers(num_classes, size=len(labels))
    return np.where(redrawn, drawn, labels), redrawn
