"""The charts available for a suite; what each shows in words is among the page's texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ro_fast.findings.study import Curves, Question
from ro_fast.pages.chart import Chart, Drawing, draw
from ro_fast.report.cost_figures import draw_gain_cost
from ro_fast.report.feature_figures import draw_correlation, draw_features
from ro_fast.report.figures import draw_curves, draw_gap, draw_small_loss_share
from ro_fast.report.level_figures import draw_levels
from ro_fast.report.suite_words import SuiteWords

# A suite's YAML names the figures that answer its question.
FIGURES: dict[str, Callable[[Question, Curves, SuiteWords, float], Chart]] = {
    "curves": draw_curves,
    "gap": draw_gap,
    "gain_cost": draw_gain_cost,
    "small_loss_share": draw_small_loss_share,
    "levels": draw_levels,
    "features": draw_features,
    "correlation": draw_correlation,
}


def draw_figures(
    question: Question, curves: Curves, words: SuiteWords, folder: Path, names: Sequence[str]
) -> dict[str, Drawing]:
    """Draws a question's charts, and writes their pictures into ``folder``."""
    return {name: draw(f"{question.prefix}{name}", partial(FIGURES[name], question, curves, words), folder) for name in names}
