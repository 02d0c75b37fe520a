"""Feature generalisation compared with robust overfitting: over epochs, and over arms and seeds."""

from __future__ import annotations

import numpy as np

from ro_fast.findings.study import Curves, Question
from ro_fast.pages.chart import Chart, new_chart
from ro_fast.pages.figure_style import GREY, INK, WIDE, colours, mark_fork
from ro_fast.report.suite_words import SuiteWords


def draw_features(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One panel per arm: the feature gap on adversarial and natural images, and how far robust accuracy lies below its best."""
    from matplotlib.lines import Line2D

    columns = min(len(curves), 4 if width >= WIDE else 2)
    rows = -(-len(curves) // columns)
    chart = new_chart(width, 2.4 * rows + 0.6)
    axes = chart.figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colour_of = colours(curves)
    for index, (ax, (arm, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        robust = curve["test_robust_acc"]
        fall = np.maximum.accumulate(robust, axis=1) - robust
        name, told = t.arm(arm), t("suite.chart.points_at_epoch")
        ax.plot(curve["epoch"], 100 * fall.mean(axis=0), color=GREY, lw=1.3)
        chart.tell(ax, t("suite.chart.of_fall", arm=name), curve["epoch"], 100 * fall.mean(axis=0), told)
        for metric, line in (("feature_gap_natural", "--"), ("feature_gap", "-")):
            measured = ~np.isnan(curve[metric]).any(axis=0)
            what = t("suite.chart.of_features" if metric == "feature_gap" else "suite.chart.of_features_natural", arm=name)
            epoch, values = curve["epoch"][measured], curve[metric][:, measured]
            ends = t("chart.interval")
            chart.band(ax, what, epoch, values, colour_of[arm], told, interval=ends, linestyle=line, linewidth=1.8)
        mark_fork(ax, question.fork_epoch)
        ax.set_title(name, fontweight="bold", loc="left")
        if index % columns == 0:
            ax.set_ylabel(t("suite.chart.points"))
    for ax in list(axes.flat)[len(curves) :]:
        ax.set_axis_off()
    chart.figure.supxlabel(t("chart.epoch"), fontsize=10)
    keys = [
        Line2D([], [], color=INK, lw=1.8, label=t("suite.chart.features")),
        Line2D([], [], color=INK, lw=1.8, ls="--", label=t("suite.chart.features_natural")),
        Line2D([], [], color=GREY, lw=1.3, label=t("suite.chart.fall")),
    ]
    chart.figure.legend(handles=keys, loc="outside upper center", ncols=3 if width >= WIDE else 1)
    return chart


def draw_correlation(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One circle per run: feature gap against robust overfitting gap; runs of the report's other questions in grey."""
    chart = new_chart(width, 4.0 if width >= WIDE else 5.4)
    ax = chart.figure.subplots()
    colour_of = colours(curves)
    for arm in [arm for arm in question.all_arms if arm.name not in colour_of] + list(question.arms):
        seeds = [(100 * seed.feature_gap, 100 * seed.ro_gap) for seed in arm.seeds if seed.feature_gap is not None]
        x, y = [x for x, _ in seeds], [y for _, y in seeds]
        own, name = arm.name in colour_of, t.arm(arm.name)
        with chart.owned(name if own else ""):
            colour = colour_of.get(arm.name, "#c4c4c4")
            ax.plot(x, y, "o", color=colour, ms=6 if own else 4, label=name if own else None)
        chart.tell(ax, name, x, y, t("suite.chart.both_gaps"), owner=name if own else "")
    ax.set_xlabel(t("suite.chart.feature_axis"))
    ax.set_ylabel(t("suite.chart.gap"))
    chart.figure.legend(loc="outside right center" if width >= WIDE else "outside upper center", ncols=1 if width >= WIDE else 2)
    return chart
