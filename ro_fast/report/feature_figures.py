"""Feature generalisation compared with robust overfitting: over epochs, and over arms and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ro_fast.findings.study import Curves, Question
from ro_fast.pages.figure_style import GREY, WIDE, band, colours, mark_fork, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_features(question: Question, curves: Curves, width: float) -> Figure:
    """One panel per arm: the feature gap on adversarial and natural images, and how far robust accuracy lies below its best."""
    from matplotlib.lines import Line2D

    columns = min(len(curves), 4 if width >= WIDE else 2)
    rows = -(-len(curves) // columns)
    figure = new_figure(width, 2.4 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colour_of = colours(curves)
    for index, (ax, (arm, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        robust = curve["test_robust_acc"]
        fall = np.maximum.accumulate(robust, axis=1) - robust
        ax.plot(curve["epoch"], 100 * fall.mean(axis=0), color=GREY, lw=1.3)
        for metric, line in (("feature_gap_natural", "--"), ("feature_gap", "-")):
            measured = ~np.isnan(curve[metric]).any(axis=0)
            band(ax, curve["epoch"][measured], curve[metric][:, measured], colour_of[arm], linestyle=line, linewidth=1.8)
        mark_fork(ax, question.fork_epoch)
        ax.set_title(arm.replace("_", " "), color=colour_of[arm], fontweight="bold", loc="left")
        if index % columns == 0:
            ax.set_ylabel("points")
    for ax in list(axes.flat)[len(curves) :]:
        ax.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    keys = [
        Line2D([], [], color="#222222", lw=1.8, label="feature gap, adversarial"),
        Line2D([], [], color="#222222", lw=1.8, ls="--", label="feature gap, natural"),
        Line2D([], [], color=GREY, lw=1.3, label="fall of robust accuracy"),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=3 if width >= WIDE else 1)
    return figure


def draw_correlation(question: Question, curves: Curves, width: float) -> Figure:
    """One circle per run: feature gap against robust overfitting gap; runs of the report's other questions in grey."""
    figure = new_figure(width, 4.0 if width >= WIDE else 5.4)
    ax = figure.subplots()
    colour_of = colours(curves)
    for arm in [arm for arm in question.all_arms if arm.name not in colour_of] + list(question.arms):
        seeds = [(seed.feature_gap, seed.ro_gap) for seed in arm.seeds if seed.feature_gap is not None]
        own = arm.name in colour_of
        ax.plot(
            [100 * feature_gap for feature_gap, _ in seeds],
            [100 * gap for _, gap in seeds],
            "o",
            color=colour_of.get(arm.name, "#c4c4c4"),
            ms=6 if own else 4,
            label=arm.name.replace("_", " ") if own else None,
        )
    ax.set_xlabel("feature generalisation gap, adversarial, points")
    ax.set_ylabel("robust overfitting gap, points")
    figure.legend(loc="outside right center" if width >= WIDE else "outside upper center", ncols=1 if width >= WIDE else 2)
    return figure
