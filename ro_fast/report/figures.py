"""Charts available for every suite: curves by arm, gap by arm, share of small-loss samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.study import Curves, Question
from ro_fast.pages.chart import Chart, new_chart
from ro_fast.pages.figure_style import GREY, INK, LINES, WIDE, colours, mark_fork
from ro_fast.report.suite_words import SuiteWords

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def draw_curves(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One panel per arm: train and test robust accuracy, with the baseline's test curve in grey behind."""
    columns = min(len(curves), 3 if width >= WIDE else 2)
    rows = -(-len(curves) // columns)
    chart = new_chart(width, 2.3 * rows + 0.6)
    axes = chart.figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colour_of = colours(curves)
    forks = {arm.name: question.fork_epoch if arm.fork_epoch is None else arm.fork_epoch for arm in question.arms}
    for index, (ax, (arm, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        if BASELINE in curves and arm != BASELINE:
            reference = curves[BASELINE]
            ax.plot(reference["epoch"], 100 * reference["test_robust_acc"].mean(axis=0), color=GREY, lw=1.1)
        name = t.arm(arm)
        colour, epoch = colour_of[arm], curve["epoch"]
        told = {"text": t("chart.at_epoch"), "interval": t("chart.interval")}
        of_train, of_test = (t(f"suite.chart.{key}", arm=name) for key in ("of_train", "of_test"))
        chart.band(ax, of_train, epoch, curve["train_robust_acc"], colour, **told, linestyle="--", linewidth=1.2)
        chart.band(ax, of_test, epoch, curve["test_robust_acc"], colour, **told, linewidth=2.0)
        mark_fork(ax, forks.get(arm, question.fork_epoch))
        _mark_drops(ax, curve)
        ax.set_title(name, fontweight="bold", loc="left")
        if index % columns == 0:
            ax.set_ylabel(t("chart.robust"))
        ax.tick_params(labelbottom=index + columns >= len(curves))
    chart.figure.supxlabel(t("chart.epoch"), fontsize=10)
    spare = list(axes.flat)[len(curves) :]
    for ax in spare:
        ax.set_axis_off()
    handles = _curve_keys(t, BASELINE in curves, any(len(_drops(curve)) for curve in curves.values()))
    if spare:
        spare[0].legend(handles=handles, loc="center left", borderaxespad=0)
    else:
        chart.figure.legend(handles=handles, loc="outside upper center", ncols=3 if width >= WIDE else 2)
    return chart


def draw_gap(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One row per arm: mean gap with its 95 % interval, seeds as dots."""
    arms = question.arms
    chart = new_chart(width, 0.5 * len(arms) + 1.0)
    ax = chart.figure.subplots()
    colour_of = colours(curves)
    ax.axvline(0, color=INK, lw=1)
    for row, arm in enumerate(arms):
        gap, colour = arm.ro_gap, colour_of[arm.name]
        mean, ends = 100 * gap.mean, None
        if gap.ci95 is not None:
            ends = [100 * bound for bound in gap.ci95]
            ax.plot(ends, [row, row], color=colour, lw=3, alpha=0.55, solid_capstyle="butt")
        ax.plot(mean, row, "D", color=colour, ms=7, zorder=3)
        ax.annotate(
            f"{round(mean, 1) + 0.0:.1f}",
            (mean, row),
            (0, 8),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
        seeds = [100 * seed.ro_gap for seed in arm.seeds]
        ax.plot(seeds, [row + 0.25] * len(seeds), "o", color=colour, ms=4, mfc="white")
        name, told = t.arm(arm.name), t("chart.points")
        chart.tell(ax, name, mean, row, told, interval=t("chart.interval"), ends=ends)
        chart.tell(ax, t("suite.chart.one_seed", arm=name), np.sort(seeds), [row + 0.25] * len(seeds), told)
    names = [t.arm(arm.name) for arm in arms]
    ax.set_yticks(range(len(arms)), names if width >= WIDE else [_in_two_lines(name) for name in names])
    ax.set_ylim(len(arms) - 0.45, -0.75)
    ax.margins(x=0.08)
    ax.set_xlabel(t("suite.chart.gap"))
    ax.tick_params(axis="y", length=0)
    return chart


def draw_small_loss_share(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One line per arm: the share of training samples whose adversarial loss counts as small."""
    chart = new_chart(width, 3.4 if width >= WIDE else 4.2)
    ax = chart.figure.subplots()
    colour_of = colours(curves)
    for (arm, curve), line in zip(curves.items(), cycle(LINES)):
        name, share = t.arm(arm), curve["small_loss_share"]
        told = {"text": t("chart.at_epoch"), "interval": t("chart.interval"), "owner": name}
        chart.band(ax, name, curve["epoch"], share, colour_of[arm], **told, linestyle=line, linewidth=1.8, label=name)
    mark_fork(ax, question.fork_epoch)
    ax.set_xlabel(t("chart.epoch"))
    ax.set_ylabel(t("suite.chart.small"))
    if width >= WIDE:
        chart.figure.legend(loc="outside right center", handlelength=3)
    else:
        chart.figure.legend(loc="outside upper center", ncols=2, handlelength=3)
    return chart


def _drops(curve: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The first epochs after the learning rate fell by half or more at once."""
    lr = curve["lr"][0]
    return np.asarray(curve["epoch"][1:][lr[1:] <= lr[:-1] / 2])


def _mark_drops(ax: Axes, curve: Mapping[str, NDArray[np.float64]]) -> None:
    for epoch in _drops(curve):
        ax.plot([epoch - 0.5], [1.0], marker="v", color=GREY, ms=5, transform=ax.get_xaxis_transform(), clip_on=False)


def _in_two_lines(name: str) -> str:
    """A name broken where its first word ends."""
    return re.sub(r"(?<=.) |(?<=.)_", lambda found: "\n" if found[0] == " " else "_\n", name, count=1)


def _curve_keys(t: SuiteWords, baseline: bool, drops: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Line2D([], [], color=INK, lw=2, label=t("suite.chart.test")),
        Line2D([], [], color=INK, lw=1.2, ls="--", label=t("suite.chart.train")),
        Patch(facecolor=INK, alpha=0.2, label=t("suite.chart.band")),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (2, 2)), label=t("suite.chart.branch")),
    ]
    if baseline:
        keys.insert(3, Line2D([], [], color=GREY, lw=1.1, label=t("suite.chart.test_of_baseline")))
    if drops:
        keys.append(Line2D([], [], color=GREY, marker="v", ls="none", ms=5, label=t("suite.chart.drops")))
    return keys
