"""A suite's results along its axis: the effect of a dose, a threshold or a size on the gap and on robustness."""

from __future__ import annotations

import math

from ro_fast.findings.study import Curves, Question
from ro_fast.pages.chart import Chart, new_chart
from ro_fast.pages.figure_style import GREY, INK, PALETTE, WIDE
from ro_fast.report.suite_words import SuiteWords

_PANELS = {"ro_gap": "gap", "last_robust_acc": "last"}


def draw_levels(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """Gap and last robust accuracy by level: means with 95 % intervals, seeds as circles; arms without a level as grey lines."""
    chart = new_chart(width, 3.2 if width >= WIDE else 5.6)
    axes = chart.figure.subplots(1, 2) if width >= WIDE else chart.figure.subplots(2, 1, sharex=True)
    levels = sorted(((arm.x, arm) for arm in question.arms if arm.x is not None), key=lambda level: level[0])
    x = [value for value, _ in levels]
    axis = t.say(question.x_label) if question.x_label else t("suite.chart.level")
    for ax, (metric, key), colour in zip(axes, _PANELS.items(), PALETTE, strict=False):
        for arm in question.arms:
            if arm.x is None:
                mean = 100 * getattr(arm, metric).mean
                ax.axhline(mean, color=GREY, lw=1.1, ls="--")
                ax.annotate(t.arm(arm.name), (1, mean), (-2, 2), xycoords=("axes fraction", "data"),
                            textcoords="offset points", ha="right", color=GREY)  # fmt: skip
        means = [100 * getattr(arm, metric).mean for _, arm in levels]
        ax.plot(x, means, "-D", color=colour, ms=6, lw=1.6)
        ends = [[100 * bound for bound in getattr(arm, metric).ci95 or ()] or [math.nan] * 2 for _, arm in levels]
        label, told = t(f"suite.chart.{key}"), t("suite.chart.at_level", axis=axis)
        chart.tell(ax, label, x, means, told, interval=t("chart.interval"), ends=list(zip(*ends, strict=True)))
        for value, arm in levels:
            ci95 = getattr(arm, metric).ci95
            if ci95 is not None:
                ax.plot([value] * 2, [100 * bound for bound in ci95], color=colour, lw=3, alpha=0.4)
            seeds = [100 * getattr(seed, metric) for seed in arm.seeds]
            ax.plot([value] * len(seeds), seeds, "o", color=colour, ms=4, mfc="white")
        if metric == "ro_gap":
            ax.axhline(0, color=INK, lw=1)
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.set_ylabel(label)
    chart.figure.supxlabel(axis, fontsize=10)
    return chart
