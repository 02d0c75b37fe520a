"""The charts available for a suite, and what they show in words."""

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

_BAND = "the mean over seeds, with a band from the lowest to the highest seed"
# A suite's YAML names the figures that answer its question.
FIGURES: dict[str, tuple[Callable[[Question, Curves, float], Chart], str]] = {
    "curves": (
        draw_curves,
        f"Robust accuracy on training (dashed) and test images (solid) by epoch: {_BAND}. Grey: the baseline's test curve, "
        "if any. The dotted line marks where the arm branches, triangles mark drops of the learning rate.",
    ),
    "gap": (
        draw_gap,
        "Robust overfitting gap by arm: the mean (diamond) with its 95 % interval over seeds (bar), and single seeds "
        "(circles).",
    ),
    "gain_cost": (
        draw_gain_cost,
        "Mitigations in ranking order. Left: gain in last robust accuracy over the arm each is compared with, as the "
        "mean with its 95 % interval over seeds. Right: training work in floating-point operations (diamond) and training time "
        "on this machine (bar), including teachers, as multiples of that arm's.",
    ),
    "small_loss_share": (
        draw_small_loss_share,
        f"Share of training samples whose adversarial loss counts as small: {_BAND}. Where it approaches 0 or 100 %, "
        "removing one of the two parts removes nothing or everything.",
    ),
    "levels": (
        draw_levels,
        "Robust overfitting gap and last robust accuracy by level: means (diamonds) with their 95 % intervals over seeds "
        "(bars), and single seeds (circles).",
    ),
    "features": (
        draw_features,
        f"Feature generalisation gap of the penultimate layer by epoch: {_BAND}. Grey: how far robust test accuracy lies below "
        "its best so far. Redrawn training labels push the gap below zero until they are memorised.",
    ),
    "correlation": (
        draw_correlation,
        "Final feature generalisation gap against final robust overfitting gap, one circle per run; runs of the report's "
        "other questions in grey.",
    ),
}


def draw_figures(question: Question, curves: Curves, folder: Path, names: Sequence[str]) -> dict[str, Drawing]:
    """Draws a question's charts, and writes their pictures into ``folder``."""
    return {name: draw(f"{question.prefix}{name}", partial(FIGURES[name][0], question, curves), folder) for name in names}
