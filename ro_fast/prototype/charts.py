"""The charts of a prototype's page. They contain only digits; the text is in the page, in its language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ro_fast.findings.decision import NATURAL, LearningCurve
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import FIRST, HARMS, HELPS
from ro_fast.findings.study import Curves
from ro_fast.pages.figure_style import GREY, NARROW, PALETTE, WIDE, band, mark_fork, new_figure, save, style
from ro_fast.prototype.result import Prototype

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {FIRST: PALETTE[2], HELPS: PALETTE[0], HARMS: PALETTE[1]}


def save_charts(result: Prototype, curves: Curves, folder: Path) -> dict[str, Path]:
    """Draws ``gains``, ``learning_curve`` if there is one, and ``curves``, each also as ``…_narrow``."""
    paths: dict[str, Path] = {}
    with style():
        for suffix, width in {"": WIDE, "_narrow": NARROW}.items():
            figures = {"gains": draw_gains(result, width), "curves": draw_curves(result, curves, width)}
            if result.learning_curve is not None:
                figures["learning_curve"] = draw_learning_curve(result.learning_curve, width)
            for name, figure in figures.items():
                paths[name + suffix] = save(figure, folder / f"{name}{suffix}.png")
    return paths


def draw_gains(result: Prototype, width: float) -> Figure:
    """One row per action that has a gain: mean and 95 % interval in points, relative to plain adversarial training at 0."""
    rows = [(number, action.gain, action.verdict) for number, action in enumerate(result.actions, 1) if action.gain is not None]
    figure = new_figure(width, 0.4 * len(rows) + 0.6)
    ax = figure.subplots()
    ax.axvline(0, color="#222222", lw=1)
    for row, (_, gain, verdict) in enumerate(rows):
        colour = _COLOURS.get(verdict, GREY)
        if gain.ci95 is not None:
            ax.plot([100 * bound for bound in gain.ci95], [row, row], color=colour, lw=4, alpha=0.5, solid_capstyle="butt")
        ax.plot(100 * gain.difference, row, "D", color=colour, ms=7)
    ax.set_yticks(range(len(rows)), [str(number) for number, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    return figure


def draw_learning_curve(curve: LearningCurve, width: float) -> Figure:
    """Accuracy in % against training images, with 95 % intervals; extrapolated values are hollow."""
    figure = new_figure(width, 2.8)
    ax = figure.subplots()
    measured, ahead = curve.points, curve.doubled
    ax.plot([p.size for p in measured], [100 * p.mean for p in measured], "-", color=PALETTE[0], lw=2)
    ax.plot([measured[-1].size, ahead.size], [100 * measured[-1].mean, 100 * ahead.mean], "--", color=GREY, lw=1.5)
    for point, face in [*((point, PALETTE[0]) for point in measured), (ahead, "white")]:
        if point.ci95 is not None:
            ax.plot([point.size] * 2, [100 * bound for bound in point.ci95], color=PALETTE[0], lw=4, alpha=0.3)
        ax.plot(point.size, 100 * point.mean, "o", color=PALETTE[0], mfc=face, ms=8)
    sizes = [point.size for point in (*measured, ahead)]
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    return figure


def draw_curves(result: Prototype, curves: Curves, width: float) -> Figure:
    """Robust accuracy by epoch: plain adversarial training on test and training images, and the most helpful mitigation."""
    figure = new_figure(width, 3.2)
    ax = figure.subplots()
    plain = curves[BASELINE]
    band(ax, plain["epoch"], plain["train_robust_acc"], "#222222", linestyle="--", linewidth=1.3)
    band(ax, plain["epoch"], plain["test_robust_acc"], "#222222", linewidth=2.2)
    for name in result.worth:
        if name not in (BASELINE, NATURAL):
            band(ax, curves[name]["epoch"], curves[name]["test_robust_acc"], PALETTE[2], linestyle="-.", linewidth=2.2)
    mark_fork(ax, result.plan.fork_epoch)
    return figure
