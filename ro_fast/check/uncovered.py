"""Regions of the test images that training misses: a kind of image that the test has and training lacks or has hardly.

If the training and test images of a class were drawn alike, the K nearest others of a test image, among all images of its class,
would be training images as often as all others of the class are: a hypergeometric number (the local form of the
nearest-neighbour test of Schilling 1986, J. Am. Stat. Assoc. 81). Flagged are test images with so few that, by Benjamini and
Hochberg's rule over all test images, at most one in twenty flagged is expected to be so by chance. Flagged images of a class
that are neighbours form a region.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from ro_fast.check.finding import MORE_TEST_IMAGES, NOTHING_TO_DO, Example, Finding, Image, Reason, images, percent
from ro_fast.check.images import Floats, Images, Ints, nearest
from ro_fast.said import SEMICOLON, Said, together

LEAST_K, MOST_K = 5, 20  # neighbours: a quarter of the class's test images, within these bounds
LEAST = 12  # test images of a class, below which none of its regions can be told
FALSE = 0.05  # share of flagged images that chance may flag
SMALLEST = 3  # images of a region
MOST = 5000  # test images examined
LETTERS = "ABCDEFGH"  # the largest regions have names


@dataclass(frozen=True)
class Region:
    """Test images of one class, neighbours of each other, around which training images are missing."""

    letter: str  # "" beyond the largest
    label: int
    rows: Ints  # test images, the most central first
    found: float  # mean number of training images among the neighbours
    expected: float
    nearest: Ints  # the nearest training image of the class of each


def uncovered(view: Images) -> tuple[Finding, list[Region]]:
    """The finding on regions that training misses, and the regions, the largest first."""
    looked = np.random.default_rng([view.seed, 4]).permutation(len(view.y_test))[:MOST]
    classes = [_Class(view, label, np.sort(looked[view.y_test[looked] == label])) for label in range(view.classes)]
    classes = [one for one in classes if one.told]
    if not classes:
        message = Said(
            "uncovered.few",
            "No class has {least} test images, so kinds of images that training misses can't be told.",
            least=LEAST,
        )
        return Finding("uncovered", "info", 0, 0.0, message, MORE_TEST_IMAGES), []
    p = np.concatenate([one.p for one in classes])
    ordered = np.sort(p)
    passing = np.flatnonzero(ordered <= FALSE * np.arange(1, len(p) + 1) / len(p))
    limit = ordered[passing[-1]] if len(passing) else -1.0
    regions = sorted((r for one in classes for r in one.regions(limit)), key=lambda r: (-len(r.rows), r.label))
    regions = [_lettered(region, i) for i, region in enumerate(regions)]
    return _finding(view, regions, classes, len(p)), regions


class _Class:
    """The images of one class around each of its test images."""

    def __init__(self, view: Images, label: int, rows: Ints) -> None:
        self.label, self.rows = label, rows
        self.train = np.flatnonzero(view.y_train == label)
        self.told = len(rows) >= LEAST and len(self.train) > 0
        if not self.told:
            return
        from scipy.stats import hypergeom

        ours, theirs = view.features[0][self.train], view.features[1][rows]
        n, m = len(ours), len(theirs)
        self.k = min(int(np.clip(m // 4, LEAST_K, MOST_K)), n + m - 1)
        among = np.concatenate([theirs, ours])
        _, near = nearest(theirs, among, self.k + 1, f"test images of class {label} among its images")
        own = near == np.arange(m)[:, None]
        own[~own.any(1), -1] = True  # among many identical images an image need not find itself
        self.near = near[~own].reshape(m, self.k)
        self.trained = (self.near >= m).sum(1)
        self.expected = self.k * n / (n + m - 1)
        self.p = hypergeom.cdf(self.trained, n + m - 1, n, self.k)
        self.ours, self.theirs = ours, theirs
        self.ratio = n / m

    def regions(self, limit: float) -> list[Region]:
        """Connected parts of the test images whose p is at most a limit."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        flagged, m = self.p <= limit, len(self.rows)
        if flagged.sum() < SMALLEST:
            return []
        a = np.repeat(np.arange(m), self.k)
        b = self.near.ravel()
        linked = (b < m) & flagged[a] & flagged[np.minimum(b, m - 1)]
        graph = coo_array((np.ones(linked.sum()), (a[linked], b[linked])), shape=(m, m))
        part = connected_components(graph, directed=False)[1]
        groups = [np.flatnonzero(flagged & (part == number)) for number in np.unique(part[flagged])]
        return [self._region(group) for group in groups if len(group) >= SMALLEST]

    def _region(self, group: Ints) -> Region:
        x: Floats = self.theirs[group]
        group = group[np.argsort(np.linalg.norm(x - x.mean(0), axis=1), kind="stable")]
        closest = nearest(self.theirs[group], self.ours, 1, "training images next to a region")[1][:, 0]
        found = float(self.trained[group].mean())
        return Region("", self.label, self.rows[group], found, self.expected, self.train[closest])


def _lettered(region: Region, place: int) -> Region:
    letter = LETTERS[place] if place < len(LETTERS) else ""
    return Region(letter, region.label, region.rows, region.found, region.expected, region.nearest)


def _finding(view: Images, regions: list[Region], classes: list[_Class], looked: int) -> Finding:
    of_all = images(len(view.y_test), "test image")
    drawn = "" if looked == len(view.y_test) else Said("uncovered.drawn", "Examined were {n} of {all}.", n=looked, all=of_all)
    count = sum(len(region.rows) for region in regions)
    if not count:
        none = Said(
            "uncovered.none",
            "Around the test images of every class lie as many training images as around its other images.",
        )
        return Finding("uncovered", "info", 0, 0.0, together([none, drawn]), NOTHING_TO_DO)
    share, name = count / looked, view.data.class_name
    told = [
        Said(
            "uncovered.region",
            "{letter}, {n} of class {name} with {found} training images among the nearest instead of {expected}",
            letter=region.letter,
            n=len(region.rows),
            name=name(region.label),
            found=f"{region.found:.1f}",
            expected=f"{region.expected:.1f}",
        )
        for region in regions
        if region.letter
    ]
    message = Said(
        "uncovered.found",
        "Training misses {regions} of the test images, with {images} ({share}): {told}.",
        regions=images(len(regions), "region"),
        images=images(count),
        share=percent(share),
        told=together(told, SEMICOLON),
    )
    ratio = {one.label: one.ratio for one in classes}
    lacking = sum(round(len(r.rows) * max(0.0, 1 - r.found / r.expected) * ratio[r.label]) for r in regions)
    advice = Said(
        "uncovered.do",
        "Look at these test images: what do they share (light, place, kind)? Collect and label training images like them, about "
        "{n} to have as many in proportion as elsewhere; until then, their accuracy is that of images unlike any trained on.",
        n=max(lacking, 1),
    )
    examples = [e for e in chain.from_iterable(zip_longest(*([*_examples(view, r)] for r in regions))) if e is not None]
    reasons: dict[Image, Reason] = {}
    for region in regions:
        for row, other in zip(region.rows.tolist(), region.nearest.tolist(), strict=True):
            action = f"collect training images like this one{f' (region {region.letter})' if region.letter else ''}"
            reasons["test", row] = Reason(action, partner=("train", other))
    rows = [row for region in regions for row in region.rows.tolist()]
    severity, labels = "serious" if share >= 0.1 else "warning", max(lacking, 1)
    whole = together([message, drawn])
    return Finding("uncovered", severity, count, share, whole, advice, [], rows, examples, reasons, labels=labels)


def _examples(view: Images, region: Region) -> list[Example]:
    """Its test images, each beside the nearest training image of the class."""
    where = Said("uncovered.of_region", "region {letter}", letter=region.letter)
    smaller = Said("uncovered.of_smaller", "a smaller region")
    caption = Said(
        "uncovered.caption",
        "{where}, class {name}: in the test, and the nearest in training",
        where=where if region.letter else smaller,
        name=view.data.class_name(region.label),
    )
    pairs = zip(region.rows.tolist(), region.nearest.tolist(), strict=True)
    return [Example((("test", row), ("train", other)), caption) for row, other in pairs]
