"""The pictures of a check: maps of the data by class, by finding and by part, and the margins against 2ε."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ro_fast.check.finding import KINDS, Finding
from ro_fast.check.images import Floats, Images
from ro_fast.check.margins import Margins
from ro_fast.check.uncovered import Region
from ro_fast.pages.chart import Chart, Drawing, draw, new_chart
from ro_fast.pages.figure_style import GREY, INK, PALETTE, WIDE
from ro_fast.pages.letters import width_of
from ro_fast.pages.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 4000  # training images drawn; every image of a finding is among them
NAMED_CLASSES = 20
LONG_NAME = 14  # of which two don't fit side by side below a panel, in units of the letter size
LETTERS_OF_LEGEND = 40  # of class names in all; longer ones give way to numbers, which the page explains
MARKERS = "oXs^DvP*"


@dataclass(frozen=True)
class Pictures:
    """The contents of the figures."""

    view: Images
    findings: Sequence[Finding]
    margins: Margins
    regions: Sequence[Region]


def draw_figures(pictures: Pictures, words: Words, folder: Path) -> dict[str, Drawing]:
    """Draws ``coverage``, ``map`` and, if there are any, ``margins``, and writes their pictures into a folder."""
    view, findings, wide = pictures.view, pictures.findings, pictures.margins
    rows = _drawn(view, findings)
    place, method = plane(view.features[0][rows], view.seed)
    charts = {"coverage": partial(draw_coverage, view, pictures.regions, words)}
    charts["map"] = partial(draw_map, view, findings, rows, place, method, words)
    if len(wide.rows):
        charts["margins"] = partial(draw_margins, wide, words)
    return {name: draw(name, chart, folder) for name, chart in charts.items()}


def plane(features: Floats, seed: int) -> tuple[Floats, str]:
    """Points [N, 2] and the method: UMAP if it is installed and there is enough to draw, otherwise principal components."""
    if importlib.util.find_spec("umap") is not None and len(features) > 50:
        from umap import UMAP

        return np.asarray(UMAP(random_state=seed, n_jobs=1).fit_transform(features)), "UMAP"
    return _first_two(features), "principal component"


def _first_two(features: Floats) -> Floats:
    return np.pad(features, ((0, 0), (0, max(0, 2 - features.shape[1]))))[:, :2]


def _drawn(view: Images, findings: Sequence[Finding]) -> np.ndarray:
    """Rows of training images: a random part, and those of findings, the most informative kinds first."""
    chosen = np.random.default_rng([view.seed, 3]).permutation(len(view.y_train))[:POINTS].tolist()
    for finding in findings:
        chosen += finding.train_indices[:POINTS]
    return np.unique(chosen)


def draw_coverage(view: Images, regions: Sequence[Region], words: Words, width: float) -> Chart:
    """Training and test images by their first two principal components, and the regions that training misses."""
    train, test = (_first_two(features) for features in view.features)
    chart = new_chart(width, 4.8)
    ax = chart.figure.subplots()
    rng = np.random.default_rng([view.seed, 5])
    for part, colour, name in ((train, "#b5b5b5", "training"), (test, PALETTE[0], "test")):
        drawn = part[rng.permutation(len(part))[:POINTS]]
        label = words(f"figure.{name}", n=len(part))
        x, y = drawn[:, 0], drawn[:, 1]
        ax.scatter(x, y, s=8, color=colour, alpha=0.55, linewidths=0, rasterized=True, label=label)
    for number, region in enumerate(region for region in regions if region.letter):
        place = test[region.rows]
        colour, marker = PALETTE[1:][number % len(PALETTE[1:])], MARKERS[number % len(MARKERS)]
        told = {"letter": region.letter, "name": view.data.class_name(region.label), "n": len(region.rows)}
        label = words("figure.region", **told)
        x, y = place[:, 0], place[:, 1]
        ax.scatter(x, y, s=34, color=colour, marker=marker, edgecolors=INK, linewidths=0.6, rasterized=True, label=label)
        ax.annotate(
            region.letter,
            (float(np.median(place[:, 0])), float(np.median(place[:, 1]))),
            (9, 9),
            textcoords="offset points",
            fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": colour},
        )
        chart.tell(ax, region.letter, np.median(place[:, 0]), np.median(place[:, 1]), words("figure.region_told", **told))
    first, second = words("figure.component")
    ax.set_xlabel(first)
    ax.set_ylabel(second)
    ax.tick_params(labelbottom=False, labelleft=False, length=0)
    columns = 5 if width >= WIDE else 2
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=columns, handletextpad=0.2, markerscale=1.5, labelcolor=GREY)
    return chart


def draw_map(
    view: Images, findings: Sequence[Finding], rows: np.ndarray, place: Floats, method: str, words: Words, width: float
) -> Chart:
    """Training images in the plane, coloured by class, and again by finding."""
    across = width >= WIDE
    kinds = sum(1 for kind in KINDS if any(f.kind == kind and f.train_indices for f in findings))
    chart = new_chart(width, (4.6 if across else 8.4) + 0.2 * max(0, kinds - 2))
    by_class, by_finding = chart.figure.subplots(1, 2) if across else chart.figure.subplots(2, 1)
    _by_class(by_class, view, view.y_train[rows], place)
    _by_finding(by_finding, findings, rows, place, words)
    first, second = words("figure.umap" if method == "UMAP" else "figure.component")
    for ax, title in ((by_class, "by_class"), (by_finding, "by_finding")):
        ax.set_title(words(f"figure.{title}"), loc="left", fontweight="bold")
        ax.set_xlabel(first)
        ax.set_ylabel(second)
        ax.tick_params(labelbottom=False, labelleft=False, length=0)
    return chart


def _by_class(ax: Axes, view: Images, labels: np.ndarray, place: Floats) -> None:
    import matplotlib

    present = np.unique(labels)
    colours = matplotlib.colormaps["tab20" if len(present) > 10 else "tab10"]
    names = [view.data.class_name(int(label)) for label in present]
    if len("".join(names)) > LETTERS_OF_LEGEND:
        names = [str(label) for label in present]
    for number, label in enumerate(present):
        mine = labels == label
        colour = colours(number % colours.N)
        x, y = place[mine, 0], place[mine, 1]
        ax.scatter(x, y, s=7, color=colour, alpha=0.6, linewidths=0, rasterized=True, label=names[number])
    if len(present) <= NAMED_CLASSES:
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.08),
            ncols=5 if len(present) <= 10 else 7,
            columnspacing=1.0,
            markerscale=2.2,
            handletextpad=0,
        )


def _by_finding(ax: Axes, findings: Sequence[Finding], rows: np.ndarray, place: Floats, words: Words) -> None:
    x, y, everything = place[:, 0], place[:, 1], words("figure.all")
    ax.scatter(x, y, s=5, color="#9a9a9a", alpha=0.6, linewidths=0, rasterized=True, label=everything)
    seen: dict[str, set[int]] = {}
    for finding in findings:
        seen.setdefault(finding.kind, set()).update(finding.train_indices)
    named = [kind for kind in KINDS if seen.get(kind)]
    for number, kind in enumerate(named):
        mine = np.isin(rows, list(seen[kind]))
        colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
        ax.scatter(
            place[mine, 0],
            place[mine, 1],
            s=20,
            color=colour,
            marker=marker,
            alpha=0.8,
            linewidths=0,
            rasterized=True,
            label=words("figure.of_kind", kind=words(f"kind.{kind}"), n=len(seen[kind])),
        )
    # A legend wider than its panel would squeeze it.
    columns = 1 if any(width_of(text.get_text()) > LONG_NAME for text in ax.legend().get_texts()) else 2
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=columns, handletextpad=0.2)


def draw_margins(wide: Margins, words: Words, width: float) -> Chart:
    """Fraction of images whose nearest image of another class lies within a distance, for both norms, with 2ε marked."""
    chart = new_chart(width, 3.2 if width >= WIDE else 5.6)
    axes = chart.figure.subplots(1, 2) if width >= WIDE else chart.figure.subplots(2, 1)
    for ax, distance, radius, name in ((axes[0], wide.linf, wide.eps, "L∞"), (axes[1], wide.l2, wide.eps_l2, "L2")):
        ordered = np.sort(distance)
        shares = np.linspace(0, 1, 51)
        distances = np.quantile(ordered, shares, method="inverted_cdf")
        chart.tell(ax, name, distances, 100 * shares, words("figure.within"))
        ax.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=PALETTE[0], lw=2)
        ax.axvline(2 * radius, color=PALETTE[1], ls="--", lw=1.5)
        ax.annotate(f"2ε = {2 * radius:.3g}", (2 * radius, 92), (4, 0), textcoords="offset points")
        ax.set_xlim(0, max(ordered[-1] * 1.02, 2.6 * radius))
        ax.set_ylim(0, 103)
        ax.set_xlabel(words("figure.distance", norm=name))
        ax.set_ylabel(words("figure.share"))
    return chart
