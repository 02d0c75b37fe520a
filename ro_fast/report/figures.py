"""The figures of a suite: curves by arm, gap by arm, share of small-loss samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ro_fast.report.curves import Curves
from ro_fast.verdict import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

GREY = "#6b6b6b"
# After Okabe and Ito, told apart with any colour vision; yellow is left out and purple darker, to be read on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))  # and with none
DPI = 150
WIDE, NARROW = 9.0, 4.6  # inches: a desktop's page and README; a phone's


def save_figures(results: Mapping[str, Any], curves: Curves, folder: Path) -> dict[str, Path]:
    """Draw all figures, each for a wide and for a narrow page, into ``folder``.

    ``curves.png`` is the picture that speaks for itself.

    Returns:
        ``{"curves": path, "curves_narrow": path, "gap": ..., ...}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    with _style():
        for name, draw in {"curves": draw_curves, "gap": draw_gap, "small_loss_share": draw_small_loss_share}.items():
            for suffix, width in {"": WIDE, "_narrow": NARROW}.items():
                path = folder / f"{name}{suffix}.png"
                draw(results, curves, width).savefig(path, dpi=DPI, metadata={"Software": None})
                paths[path.stem] = path
    return paths


def draw_curves(results: Mapping[str, Any], curves: Curves, width: float) -> Figure:
    """A panel an arm: train and test robust accuracy, the baseline's test curve in grey behind."""
    columns = min(len(curves), 3 if width >= WIDE else 2)
    rows = -(-len(curves) // columns)
    figure = _figure(width, 2.3 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colours = _colours(curves)
    for index, (ax, (arm, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        if BASELINE in curves and arm != BASELINE:
            reference = curves[BASELINE]
            ax.plot(reference["epoch"], 100 * reference["test_robust_acc"].mean(axis=0), color=GREY, lw=1.1)
        _band(ax, curve["epoch"], curve["train_robust_acc"], colours[arm], linestyle="--", linewidth=1.2)
        _band(ax, curve["epoch"], curve["test_robust_acc"], colours[arm], linewidth=2.0)
        _mark_fork(ax, results["fork_epoch"])
        _mark_drops(ax, curve)
        ax.set_title(arm.replace("_", " "), color=colours[arm], fontweight="bold", loc="left")
        if index % columns == 0:
            ax.set_ylabel("robust accuracy, %")
        ax.tick_params(labelbottom=index + columns >= len(curves))
    figure.supxlabel("epoch", fontsize=10)
    spare = list(axes.flat)[len(curves) :]
    for ax in spare:
        ax.set_axis_off()
    handles = _curve_keys(drops=any(len(_drops(curve)) for curve in curves.values()))
    if spare:
        spare[0].legend(handles=handles, loc="center left", borderaxespad=0)
    else:
        figure.legend(handles=handles, loc="outside upper center", ncols=3 if width >= WIDE else 2)
    return figure


def draw_gap(results: Mapping[str, Any], curves: Curves, width: float) -> Figure:
    """A row an arm: mean gap with its 95 % interval, seeds as dots."""
    arms = results["arms"]
    figure = _figure(width, 0.5 * len(arms) + 1.0)
    ax = figure.subplots()
    colours = _colours(curves)
    ax.axvline(0, color="#222222", lw=1)
    for row, arm in enumerate(arms):
        gap, colour = arm["ro_gap"], colours[arm["name"]]
        mean = 100 * gap["mean"]
        if gap["ci95"] is not None:
            ax.plot(
                [100 * bound for bound in gap["ci95"]],
                [row, row],
                color=colour,
                lw=3,
                alpha=0.55,
                solid_capstyle="butt",
            )
        ax.plot(mean, row, "D", color=colour, ms=7, zorder=3)
        ax.annotate(
            f"{round(mean, 1) + 0.0:.1f}",
            (mean, row),
            (0, 8),
            textcoords="offset points",
            ha="center",
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
        seeds = [100 * seed["ro_gap"] for seed in arm["seeds"]]
        ax.plot(seeds, [row + 0.25] * len(seeds), "o", color=colour, ms=4, mfc="white")
    ax.set_yticks(
        range(len(arms)),
        [arm["name"].replace("_", " " if width >= WIDE else "\n", 1).replace("_", " ") for arm in arms],
    )
    ax.set_ylim(len(arms) - 0.45, -0.75)
    ax.margins(x=0.08)
    ax.set_xlabel("robust overfitting gap, points")
    ax.tick_params(axis="y", length=0)
    return figure


def draw_small_loss_share(results: Mapping[str, Any], curves: Curves, width: float) -> Figure:
    """A line an arm: the share of training samples whose adversarial loss counts as small."""
    figure = _figure(width, 3.4 if width >= WIDE else 4.2)
    ax = figure.subplots()
    colours = _colours(curves)
    for (arm, curve), line in zip(curves.items(), cycle(LINES)):
        _band(
            ax,
            curve["epoch"],
            curve["small_loss_share"],
            colours[arm],
            linestyle=line,
            linewidth=1.8,
            label=arm.replace("_", " "),
        )
    _mark_fork(ax, results["fork_epoch"])
    ax.set_xlabel("epoch")
    ax.set_ylabel("small-loss samples, %")
    if width >= WIDE:
        figure.legend(loc="outside right center", handlelength=3)
    else:
        figure.legend(loc="outside upper center", ncols=2, handlelength=3)
    return figure


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's own defaults with ours over them, whatever the user's matplotlibrc says."""
    import matplotlib.style

    ours = {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "text.parse_math": False,  # an arm may be called "$x$"
    }
    with matplotlib.style.context(["default", ours]):
        yield


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _colours(curves: Curves) -> dict[str, str]:
    arms = [arm for arm in curves if arm != BASELINE]
    return {BASELINE: "#222222", **{arm: PALETTE[index % len(PALETTE)] for index, arm in enumerate(arms)}}


def _band(ax: Axes, epoch: NDArray[np.float64], values: NDArray[np.float64], colour: str, **line: Any) -> None:
    """Mean over seeds with the band from the lowest seed to the highest; values: [seeds, epochs]."""
    ax.fill_between(epoch, 100 * values.min(axis=0), 100 * values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    ax.plot(epoch, 100 * values.mean(axis=0), color=colour, **line)


def _mark_fork(ax: Axes, fork_epoch: int) -> None:
    ax.axvline(
        fork_epoch - 0.5, color="#222222", lw=0.9, ls=(0, (2, 2))
    )  # between the last shared epoch and the first own


def _drops(curve: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The first epochs at a learning rate that fell by half or more at once."""
    lr = curve["lr"][0]
    return np.asarray(curve["epoch"][1:][lr[1:] <= lr[:-1] / 2])


def _mark_drops(ax: Axes, curve: Mapping[str, NDArray[np.float64]]) -> None:
    for epoch in _drops(curve):
        ax.plot([epoch - 0.5], [1.0], marker="v", color=GREY, ms=5, transform=ax.get_xaxis_transform(), clip_on=False)


def _curve_keys(drops: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Line2D([], [], color="#222222", lw=2, label="test"),
        Line2D([], [], color="#222222", lw=1.2, ls="--", label="train"),
        Patch(facecolor="#222222", alpha=0.2, label="lowest to highest seed"),
        Line2D([], [], color=GREY, lw=1.1, label="test of baseline"),
        Line2D([], [], color="#222222", lw=0.9, ls=(0, (2, 2)), label="arms part"),
    ]
    if drops:
        keys.append(Line2D([], [], color=GREY, marker="v", ls="none", ms=5, label="learning rate drops"))
    return keys
