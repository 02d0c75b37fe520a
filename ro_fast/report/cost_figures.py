"""The gain of mitigations against their cost."""

from __future__ import annotations

from typing import Any

from ro_fast.findings.ranking import COSTS_NATURAL, FIRST, HARMS, HELPS, OPEN, Ranked
from ro_fast.findings.study import Curves, Question
from ro_fast.pages.chart import Chart, new_chart
from ro_fast.pages.figure_style import GREY, INK, PALETTE, WIDE
from ro_fast.report.suite_words import SuiteWords

# Verdicts are shown by colour and by the dot's filling, so that they can be distinguished without colour.
_LOOKS = {
    FIRST: (PALETTE[2], "*", PALETTE[2], 13),
    HELPS: (PALETTE[0], "D", PALETTE[0], 6),
    COSTS_NATURAL: (PALETTE[4], "s", "white", 6),
    OPEN: (GREY, "o", "white", 6),
    HARMS: (PALETTE[1], "X", PALETTE[1], 7),
}


def draw_gain_cost(question: Question, curves: Curves, t: SuiteWords, width: float) -> Chart:
    """One row per mitigation, best first: left its gain with the 95 % interval, right its training work and time as multiples."""
    entries = question.ranking or []
    wide = width >= WIDE
    chart = new_chart(width, 0.3 * len(entries) + 1.4)
    gain, cost = chart.figure.subplots(1, 2, sharey=True, width_ratios=(3, 2) if wide else (1, 1))
    # One interval that is wide beyond use would leave no room for the others: it ends in arrows.
    edge = 2.5 * max((abs(100 * entry.gain.difference) for entry in entries), default=1.0) or 1.0
    for row, entry in enumerate(entries):
        colour, marker, face, size = _LOOKS[entry.verdict]
        if entry.gain.ci95 is not None:
            bounds = [100 * bound for bound in entry.gain.ci95]
            shown = [max(-edge, min(edge, bound)) for bound in bounds]
            gain.plot(shown, [row, row], color=colour, lw=3, alpha=0.5)
            for arrow, bound, end in zip("<>", bounds, shown, strict=True):
                if bound != end:
                    gain.plot(end, row, arrow, color=colour, ms=6)
        gain.plot(100 * entry.gain.difference, row, marker, color=colour, mfc=face, ms=size, zorder=3)
        work, seconds = (entry.cost[name].mean for name in ("gflop", "train_seconds"))
        cost.plot([1, work], [row, row], color=colour, lw=1.2)
        cost.plot(work, row, "D", color=colour, ms=5, zorder=3)
        cost.plot(seconds, row, "|", color=colour, ms=9, mew=2, zorder=3)
        name, points = t.arm(entry.name), 100 * entry.gain.difference
        ends = None if entry.gain.ci95 is None else [100 * bound for bound in entry.gain.ci95]
        what = t("suite.chart.of_gain", arm=name)
        chart.tell(gain, what, points, row, t("chart.points"), interval=t("chart.interval"), ends=ends)
        chart.tell(cost, t("suite.chart.of_work", arm=name), work, row, t("suite.chart.times"))
        chart.tell(cost, t("suite.chart.of_time", arm=name), seconds, row, t("suite.chart.times"))
    gain.axvline(0, color=INK, lw=1)
    cost.axvline(1, color=INK, lw=1)
    names = [t.arm(entry.name) for entry in entries]
    gain.set_yticks(range(len(entries)), names, fontsize=10 if wide else 8)
    gain.set_ylim(len(entries) - 0.4, -0.6)
    gain.tick_params(axis="y", length=0)
    cost.tick_params(axis="y", length=0)
    gain.set_xlabel(t("suite.chart.gain" if wide else "suite.chart.gain_short"))
    cost.set_xlabel(t("suite.chart.costs" if wide else "suite.chart.costs_short"))
    chart.figure.legend(handles=_keys(entries, t), loc="outside upper center", ncols=5 if wide else 2)
    return chart


def _keys(entries: list[Ranked], t: SuiteWords) -> list[Any]:
    from matplotlib.lines import Line2D

    there = {entry.verdict for entry in entries}
    return [
        Line2D([], [], color=colour, marker=marker, mfc=face, ms=size, ls="none", label=t.verdict(verdict))
        for verdict, (colour, marker, face, size) in _LOOKS.items()
        if verdict in there
    ]
