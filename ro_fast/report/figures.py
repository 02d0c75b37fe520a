"""Figures available for every suite: curves by arm, gap by arm, share of small-loss samples."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.study import Curves, Question
from ro_fast.pages.figure_style import GREY, LINES, WIDE, band, colours, mark_fork, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def draw_curves(question: Question, curves: Curves, width: float) -> Figure:
    """One panel per arm: train and test robust accuracy, with the baseline's test curve in grey behind."""
    columns = min(len(curves), 3 if width >= WIDE else 2)
    rows = -(-len(curves) // columns)
    figure = new_figure(width, 2.3 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colour_of = colours(curves)
    forks = {arm.name: question.fork_epoch if arm.fork_epoch is None else arm.fork_epoch for arm in question.arms}
    for index, (ax, (arm, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        if BASELINE in curves and arm != BASELINE:
            reference = curves[BASELINE]
            ax.plot(reference["epoch"], 100 * reference["test_robust_acc"].mean(axis=0), color=GREY, lw=1.1)
        band(ax, curve["epoch"], curve["train_robust_acc"], colour_of[arm], linestyle="--", linewidth=1.2)
        band(ax, curve["epoch"], curve["test_robust_acc"], colour_of[arm], linewidth=2.0)
        mark_fork(ax, forks.get(arm, question.fork_epoch))
        _mark_drops(ax, curve)
        ax.set_title(arm.replace("_", " "), color=colour_of[arm], fontweight="bold", loc="left")
        if index % columns == 0:
            ax.set_ylabel("robust accuracy, %")
        ax.tick_params(labelbottom=index + columns >= len(curves))
    figure.supxlabel("epoch", fontsize=10)
    spare = list(axes.flat)[len(curves) :]
    for ax in spare:
        ax.set_axis_off()
    handles = _curve_keys(BASELINE in curves, any(len(_drops(curve)) for curve in curves.values()))
    if spare:
        spare[0].legend(handles=handles, loc="center left", borderaxespad=0)
    else:
        figure.legend(handles=handles, loc="outside upper center", ncols=3 if width >= WIDE else 2)
    return figure


def draw_gap(question: Question, curves: Curves, width: float) -> Figure:
    """One row per arm: mean gap with its 95 % interval, seeds as dots."""
    arms = question.arms
    figure = new_figure(width, 0.5 * len(arms) + 1.0)
    ax = figure.subplots()
    colour_of = colours(curves)
    ax.axvline(0, color="#222222", lw=1)
    for row, arm in enumerate(arms):
        gap, colour = arm.ro_gap, colour_of[arm.name]
        mean = 100 * gap.mean
        if gap.ci95 is not None:
            ax.plot(
                [100 * bound for bound in gap.ci95],
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
        seeds = [100 * seed.ro_gap for seed in arm.seeds]
        ax.plot(seeds, [row + 0.25] * len(seeds), "o", color=colour, ms=4, mfc="white")
    ax.set_yticks(
        range(len(arms)),
        [arm.name.replace("_", " " if width >= WIDE else "\n", 1).replace("_", " ") for arm in arms],
    )
    ax.set_ylim(len(arms) - 0.45, -0.75)
    ax.margins(x=0.08)
    ax.set_xlabel("robust overfitting gap, points")
    ax.tick_params(axis="y", length=0)
    return figure


def draw_small_loss_share(question: Question, curves: Curves, width: float) -> Figure:
    """One line per arm: the share of training samples whose adversarial loss counts as small."""
    figure = new_figure(width, 3.4 if width >= WIDE else 4.2)
    ax = figure.subplots()
    colour_of = colours(curves)
    for (arm, curve), line in zip(curves.items(), cycle(LINES)):
        band(
            ax,
            curve["epoch"],
            curve["small_loss_share"],
            colour_of[arm],
            linestyle=line,
            linewidth=1.8,
            label=arm.replace("_", " "),
        )
    mark_fork(ax, question.fork_epoch)
    ax.set_xlabel("epoch")
    ax.set_ylabel("small-loss samples, %")
    if width >= WIDE:
        figure.legend(loc="outside right center", handlelength=3)
    else:
        figure.legend(loc="outside upper center", ncols=2, handlelength=3)
    return figure


def _drops(curve: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The first epochs after the learning rate fell by half or more at once."""
    lr = curve["lr"][0]
    return np.asarray(curve["epoch"][1:][lr[1:] <= lr[:-1] / 2])


def _mark_drops(ax: Axes, curve: Mapping[str, NDArray[np.float64]]) -> None:
    for epoch in _drops(curve):
        ax.plot([epoch - 0.5], [1.0], marker="v", color=GREY, ms=5, transform=ax.get_xaxis_transform(), clip_on=False)


def _curve_keys(baseline: bool, drops: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Line2D([], [], color="#222222", lw=2, label="test"),
        Line2D([], [], color="#222222", lw=1.2, ls="--", label="train"),
        Patch(facecolor="#222222", alpha=0.2, label="lowest to highest seed"),
        Line2D([], [], color="#222222", lw=0.9, ls=(0, (2, 2)), label="arms branch"),
    ]
    if baseline:
        keys.insert(3, Line2D([], [], color=GREY, lw=1.1, label="test of baseline"))
    if drops:
        keys.append(Line2D([], [], color=GREY, marker="v", ls="none", ms=5, label="learning rate drops"))
    return keys
