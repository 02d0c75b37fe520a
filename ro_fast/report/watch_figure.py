"""The figure of a verdict: the learning curve with its best epoch, onset and alarm marked."""

from __future__ import annotations

from pathlib import Path

from ro_fast.overfitting.curve_files import LearningCurve
from ro_fast.overfitting.detector import Verdict
from ro_fast.pages.figure_style import GREY, PALETTE, WIDE, new_figure, save, style


def save_watch_figure(curve: LearningCurve, verdict: Verdict, path: Path) -> Path:
    """Draws robust test (or validation) and train accuracy over epochs, and the loss below if there is one."""
    judged = curve.judged()
    loss = curve.columns.get(judged.replace("acc", "loss"))
    with style():
        figure = new_figure(WIDE, 5.2 if loss else 3.8)
        rows = figure.subplots(2 if loss else 1, 1, sharex=True, squeeze=False, height_ratios=[2.2, 1] if loss else [1])
        ax = rows[0, 0]
        ax.plot(curve.epochs, [100 * v for v in curve.columns[judged]], color=PALETTE[0], lw=1.8, label=_words(judged))
        train = curve.columns.get("train_robust_acc")
        if train:
            ax.plot(curve.epochs, [100 * v for v in train], color=GREY, lw=1.2, ls="--", label="train robust acc")
        if verdict.best_epoch is not None:
            best = 100 * curve.columns[judged][curve.epochs.index(verdict.best_epoch)]
            ax.plot(verdict.best_epoch, best, "o", color=PALETTE[2], ms=8, zorder=3, label=f"best, epoch {verdict.best_epoch}")
        for panel in rows[:, 0]:
            if verdict.overfitting and verdict.onset_epoch is not None:
                panel.axvspan(verdict.onset_epoch, curve.epochs[-1], color=PALETTE[1], alpha=0.08, lw=0)
            for index, epoch in enumerate(verdict.alarms):
                label = f"alarm, epoch {epoch}" if index == 0 and panel is ax else None
                panel.axvline(epoch, color=PALETTE[1], lw=1.4, ls="-" if index == 0 else ":", label=label)
        ax.set_ylabel("robust accuracy, %")
        ax.set_title(_title(verdict), loc="left", fontweight="bold")
        ax.legend(loc="best")
        if loss:
            rows[1, 0].plot(curve.epochs, loss, color=PALETTE[0], lw=1.2)
            rows[1, 0].set_ylabel(_words(judged.replace("acc", "loss")))
        rows[-1, 0].set_xlabel("epoch")
        return save(figure, path)


def _words(column: str) -> str:
    return column.replace("_", " ")


def _title(verdict: Verdict) -> str:
    if verdict.overfitting:
        return f"Robust overfitting since epoch {verdict.onset_epoch}: {100 * verdict.gap:.1f} points lost"
    return "Unsure whether it overfits robustly" if verdict.overfitting is None else "No robust overfitting so far"
