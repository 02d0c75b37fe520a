"""The look of all figures: colours, lines, and shared elements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.study import Curves
from ro_fast.storage.checkpoint import write_atomically
from ro_fast.storage.saving import saving

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, GRID = "#222222", "#6b6b6b", "#e6e6e6"
# After Okabe and Ito, distinguishable with any colour vision; without yellow and with a darker purple, to be legible on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))  # distinguishable without colour
DPI = 150
WIDE, NARROW = 9.0, 4.6  # inches: a desktop's page and README; a phone's


# The first that is installed writes what matplotlib's own font has no letters for.
FONTS = ("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic", "Meiryo", "MS Gothic")


@cache
def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *[name for name in FONTS if name in installed][:1]]


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults overridden by ours, whatever the user's matplotlibrc says."""
    import matplotlib.style

    ours = {
        "font.family": _fonts(),
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": GRID,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "text.parse_math": False,  # an arm may be called "$x$"
    }
    with matplotlib.style.context(["default", ours]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of the given size in inches that needs no display and leaves pyplot's state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, the same bytes for the same figure, completely or not at all.

    Raises:
        StorageError: if it can't be written.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}))
    return path


def colours(curves: Curves) -> dict[str, str]:
    """arm -> colour: black for the baseline, the others in order."""
    arms = [arm for arm in curves if arm != BASELINE]
    return {BASELINE: INK, **{arm: PALETTE[index % len(PALETTE)] for index, arm in enumerate(arms)}}


def mark_fork(ax: Axes, fork_epoch: int) -> None:
    """A dotted line between the last epoch shared by the arms and the first of their own."""
    ax.axvline(fork_epoch - 0.5, color=INK, lw=0.9, ls=(0, (2, 2)))
