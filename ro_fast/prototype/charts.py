"""The charts of a prototype's page, in its language."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ro_fast.findings.decision import EXTRAPOLATED, NATURAL, LearningCurve
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HARMS, HELPS
from ro_fast.findings.study import Curves
from ro_fast.pages.chart import Chart, Drawing, draw, new_chart
from ro_fast.pages.figure_style import DPI, GREY, INK, NARROW, PALETTE, mark_fork, style
from ro_fast.pages.words import Words
from ro_fast.prototype.result import Prototype

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {EXTRAPOLATED: PALETTE[0], FIRST: PALETTE[2], HELPS: PALETTE[0], COSTS_NATURAL: PALETTE[4], HARMS: PALETTE[1]}


def draw_charts(
    result: Prototype,
    curves: Curves,
    best_epochs: Mapping[int, int],
    words: Words,
    names: list[str],
    best: str,
    folder: Path,
) -> dict[str, Drawing]:
    """Draws ``gains``, ``curves`` and, if there is one, ``learning_curve``, and writes their pictures into a folder.

    Args:
        result: what the page tells.
        curves: of its runs.
        best_epochs: seed -> the best epoch of plain adversarial training on validation.
        words: the page's texts.
        names: of its actions, in their order.
        best: the name of the most helpful mitigation.
        folder: for the pictures.
    """
    charts = {
        "gains": partial(draw_gains, result, words, names),
        "curves": partial(draw_curves, result, curves, best_epochs, words, best),
    }
    if result.learning_curve is not None:
        charts["learning_curve"] = partial(draw_learning_curve, result.learning_curve, words)
    return {name: draw(name, chart, folder) for name, chart in charts.items()}


def picture_of_curves(result: Prototype, curves: Curves, words: Words) -> str:
    """The curves as a PNG in base64, without words, since matplotlib's fonts can't write every language."""
    with style():
        chart = draw_curves(result, curves, {}, words, "", NARROW)
        for axes in chart.figure.axes:
            axes.set(xlabel=None, ylabel=None)
        buffer = io.BytesIO()
        chart.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def draw_gains(result: Prototype, words: Words, names: list[str], width: float) -> Chart:
    """One row per action that has a gain: mean and 95 % interval in points, relative to plain adversarial training at 0."""
    rows = [(number, action.gain, action.verdict) for number, action in enumerate(result.actions, 1) if action.gain is not None]
    chart = new_chart(width, 0.4 * len(rows) + 0.8)
    ax = chart.figure.subplots()
    ax.axvline(0, color=INK, lw=1)
    for row, (number, gain, verdict) in enumerate(rows):
        colour = _COLOURS.get(verdict, GREY)
        ends = None if gain.ci95 is None else [100 * bound for bound in gain.ci95]
        if ends is not None:
            ax.plot(ends, [row, row], color=colour, lw=4, alpha=0.5, solid_capstyle="butt")
        ax.plot(100 * gain.difference, row, "D", color=colour, ms=7, mfc="white" if verdict == EXTRAPOLATED else None)
        name = f"{number}. {names[number - 1]}"
        chart.tell(ax, name, 100 * gain.difference, row, words("chart.points"), interval=words("chart.interval"), ends=ends)
    ax.set_yticks(range(len(rows)), [str(number) for number, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(words("chart.gain"))
    ax.tick_params(axis="y", length=0)
    return chart


def draw_learning_curve(curve: LearningCurve, words: Words, width: float) -> Chart:
    """Accuracy in % against training images, with 95 % intervals; extrapolated values are hollow."""
    chart = new_chart(width, 3.0)
    ax = chart.figure.subplots()
    measured, ahead = curve.points, curve.doubled
    ax.plot([p.size for p in measured], [100 * p.mean for p in measured], "-", color=PALETTE[0], lw=2)
    ax.plot([measured[-1].size, ahead.size], [100 * measured[-1].mean, 100 * ahead.mean], "--", color=GREY, lw=1.5)
    for point, face in [*((point, PALETTE[0]) for point in measured), (ahead, "white")]:
        ends = None if point.ci95 is None else [100 * bound for bound in point.ci95]
        if ends is not None:
            ax.plot([point.size] * 2, ends, color=PALETTE[0], lw=4, alpha=0.3)
        ax.plot(point.size, 100 * point.mean, "o", color=PALETTE[0], mfc=face, ms=8)
        name = words("chart.expected" if point is ahead else "chart.measured")
        text, interval = words("chart.at_size"), words("chart.interval")
        chart.tell(ax, name, point.size, 100 * point.mean, text, interval=interval, ends=ends)
    sizes = [point.size for point in (*measured, ahead)]
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel(words("chart.images"))
    ax.set_ylabel(words("chart.robust"))
    return chart


def draw_curves(
    result: Prototype, curves: Curves, best_epochs: Mapping[int, int], words: Words, best: str, width: float
) -> Chart:
    """Robust accuracy by epoch, counted from 1: plain adversarial training on test and training images, and the most helpful
    mitigation; where its training goes its own way; below, each seed's best epoch, and above, the detector's alarms.
    """
    chart = new_chart(width, 3.4)
    ax = chart.figure.subplots()
    plain = curves[BASELINE]
    text, train, test = words("chart.at_epoch"), words("chart.train"), words("chart.test")
    epoch = plain["epoch"] + 1
    chart.band(ax, train, epoch, plain["train_robust_acc"], INK, text, owner=train, linestyle="--", linewidth=1.3)
    chart.band(ax, test, epoch, plain["test_robust_acc"], INK, text, owner=test, linewidth=2.2)
    for name in result.worth:
        if name not in (BASELINE, NATURAL):
            own = curves[name]
            chart.band(
                ax, best, own["epoch"] + 1, own["test_robust_acc"], PALETTE[2], text, owner=best, linestyle="-.", linewidth=2.2
            )
    if best_epochs:
        mark_fork(ax, result.plan.fork_epoch + 1)
        alarms = [] if result.risk.alarms is None else result.risk.alarms.alarm_epochs
        _mark(ax, list(best_epochs.values()), "^", 0.02, INK)
        _mark(ax, [alarm for alarm in alarms if alarm is not None], "v", 0.98, PALETTE[1])
    ax.set_xlabel(words("chart.epoch"))
    ax.set_ylabel(words("chart.robust"))
    return chart


def _mark(ax: Axes, epochs: Sequence[int], marker: str, height: float, colour: str) -> None:
    """One mark per seed, at a height within the panel."""
    if not epochs:
        return  # a line without points would take room of its own
    place = ax.get_xaxis_transform()
    x, y = [epoch + 1 for epoch in epochs], [height] * len(epochs)
    ax.plot(x, y, marker, color=colour, ms=6, alpha=0.6, clip_on=False, transform=place)
