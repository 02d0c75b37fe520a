"""The gain of mitigations against their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ro_fast.findings.ranking import FIRST, HARMS, HELPS, OPEN, Ranked
from ro_fast.findings.study import Curves, Question
from ro_fast.pages.figure_style import GREY, PALETTE, WIDE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Verdicts are shown by colour and by the dot's filling, so that they can be distinguished without colour.
_LOOKS = {
    FIRST: (PALETTE[2], "*", PALETTE[2], 13),
    HELPS: (PALETTE[0], "D", PALETTE[0], 6),
    OPEN: (GREY, "o", "white", 6),
    HARMS: (PALETTE[1], "X", PALETTE[1], 7),
}


def draw_gain_cost(question: Question, curves: Curves, width: float) -> Figure:
    """One row per mitigation, best first: left its gain with the 95 % interval, right its training work and time as multiples."""
    entries = question.ranking or []
    wide = width >= WIDE
    figure = new_figure(width, 0.3 * len(entries) + 1.4)
    gain, cost = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2) if wide else (1, 1))
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
    gain.axvline(0, color="#222222", lw=1)
    cost.axvline(1, color="#222222", lw=1)
    names = [entry.name.replace("_", " ") for entry in entries]
    gain.set_yticks(range(len(entries)), names, fontsize=10 if wide else 8)
    gain.set_ylim(len(entries) - 0.4, -0.6)
    gain.tick_params(axis="y", length=0)
    cost.tick_params(axis="y", length=0)
    gain.set_xlabel("gain in last robust accuracy, points" if wide else "gain, points")
    cost.set_xlabel("training work (diamond), time (bar), ×" if wide else "work (diamond),\ntime (bar), ×")
    figure.legend(handles=_keys(entries), loc="outside upper center", ncols=4 if wide else 2)
    return figure


def _keys(entries: list[Ranked]) -> list[Any]:
    from matplotlib.lines import Line2D

    there = {entry.verdict for entry in entries}
    return [
        Line2D([], [], color=colour, marker=marker, mfc=face, ms=size, ls="none", label=verdict)
        for verdict, (colour, marker, face, size) in _LOOKS.items()
        if verdict in there
    ]
