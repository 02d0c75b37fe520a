"""The figure of an evaluation: the accuracy each model keeps under one attack after another."""

from __future__ import annotations

from pathlib import Path

from ro_fast.evaluation.checkpoints import Evaluated
from ro_fast.pages.figure_style import GREY, PALETTE, WIDE, new_figure, save, style

_MARKERS = "oDs^"
_NAMES = {"apgd_ce": "APGD-CE", "apgd_t": "APGD-T", "square": "Square"}


def save_evaluation_figure(found: Evaluated, path: Path) -> Path:
    """Draws accuracy with its 95 % interval: natural, PGD, CW, then what remains after each attack of the cascade.

    Args:
        found: the contents of evaluation.json.
        path: a .png.
    """
    models = found.models
    first = next(iter(models.values()))
    with style():
        figure = new_figure(WIDE, 3.4)
        ax = figure.subplots()
        for number, (name, evaluation) in enumerate(models.items()):
            results = [evaluation.natural, evaluation.pgd, evaluation.cw, *evaluation.cascade.values()]
            places = [place + 0.16 * (number - (len(models) - 1) / 2) for place in range(len(results))]
            colour = PALETTE[number % len(PALETTE)]
            for place, result in zip(places, results, strict=True):
                ax.plot([place, place], [100 * bound for bound in result.ci95], color=colour, lw=4, alpha=0.4)
            heights = [100 * result.acc for result in results]
            ax.plot(places, heights, _MARKERS[number % len(_MARKERS)], color=colour, ms=7, label=name)
            if len(results) > 3:
                ax.plot(places[3:], heights[3:], color=colour, lw=1)
            end = heights[-1]
            ax.annotate(f"{end:.1f}", (places[-1], end), (9, -3), textcoords="offset points", color=colour)
        cascade = [_NAMES.get(name, name) for name in first.cascade]
        heads = ["natural", f"PGD-{first.settings.steps}", f"CW-{first.settings.steps}", *cascade]
        ax.axvline(2.5, color=GREY, lw=0.9, ls=(0, (2, 2)))
        ax.set_xticks(range(len(heads)), [heads[0], *heads[1:3], *(f"then {head}" for head in heads[3:])])
        ax.margins(x=0.08)
        ax.set_ylabel("accuracy, %")
        ax.legend(loc="upper right")
        return save(figure, path)
