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
