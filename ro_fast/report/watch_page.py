"""The page of a learning curve: the verdict, the curve with its best epoch, onset and alarms, and what to do."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ro_fast.overfitting.curve_files import LearningCurve
from ro_fast.overfitting.detector import Verdict
from ro_fast.pages import render
from ro_fast.pages.chart import Chart, draw, new_chart
from ro_fast.pages.figure_style import GREY, PALETTE, WIDE, save, style
from ro_fast.pages.words import Words
from ro_fast.storage.checkpoint import write_text


def write_watch_page(curve: LearningCurve, verdict: Verdict, name: str, path: Path, language: str | None = None) -> Path:
    """Writes the page, or, if the path ends in .png, only its chart.

    Args:
        curve: as it was read.
        verdict: the judgement on it.
        name: of the curve.
        path: a .html or a .png.
        language: "en" or "ja".

    Raises:
        InputError: if there are no texts in that language.
        StorageError: if it can't be written.
    """
    words = Words(Path(__file__).parent / "texts", language or "en")
    if path.suffix == ".png":
        with style():
            return save(draw_watch(curve, verdict, words, WIDE).figure, path)
    summary, evidence, _ = verdict.lines()
    page = render(
        "watch.html.j2",
        Path(__file__).parent,
        t=words,
        name=name,
        sentences=[words.sentence(summary), words.sentence(evidence)],
        advice=words("watch.do", advice=words.say(verdict.advice)),
        drawing=draw("curve", partial(draw_watch, curve, verdict, words)),
        notes=words.say(curve.assumed),
    )
    write_text(path, page)
    return path


def draw_watch(curve: LearningCurve, verdict: Verdict, words: Words, width: float) -> Chart:
    """Robust test (or validation) and train accuracy over epochs, and the loss below if there is one."""
    judged = curve.judged()
    loss_name = judged.replace("acc", "loss")
    loss = curve.columns.get(loss_name)
    chart = new_chart(width, 5.2 if loss else 3.8)
    rows = chart.figure.subplots(2 if loss else 1, 1, sharex=True, squeeze=False, height_ratios=[2.2, 1] if loss else [1])
    ax, told = rows[0, 0], words("watch.at_epoch")
    looks = {judged: {"color": PALETTE[0], "lw": 1.8}, "train_robust_acc": {"color": GREY, "lw": 1.2, "ls": "--"}}
    for column, look in looks.items():
        if column in curve.columns:
            percent, own = [100 * value for value in curve.columns[column]], words(f"watch.column.{column}")
            with chart.owned(own):
                ax.plot(curve.epochs, percent, label=own, **look)
            chart.tell(ax, own, curve.epochs, percent, told, owner=own)
    if verdict.best_epoch is not None:
        best = 100 * curve.columns[judged][curve.epochs.index(verdict.best_epoch)]
        label = words("watch.best", epoch=verdict.best_epoch)
        ax.plot(verdict.best_epoch, best, "o", color=PALETTE[2], ms=8, zorder=3, label=label)
    for panel in rows[:, 0]:
        if verdict.overfitting and verdict.onset_epoch is not None:
            panel.axvspan(verdict.onset_epoch, curve.epochs[-1], color=PALETTE[1], alpha=0.08, lw=0)
        for index, epoch in enumerate(verdict.alarms):
            label = words("watch.alarm", epoch=epoch) if index == 0 and panel is ax else None
            panel.axvline(epoch, color=PALETTE[1], lw=1.4, ls="-" if index == 0 else ":", label=label)
    ax.set_ylabel(words("watch.accuracy"))
    chart.figure.legend(loc="outside upper left", ncols=4 if width >= WIDE else 2)
    if loss:
        rows[1, 0].plot(curve.epochs, loss, color=PALETTE[0], lw=1.2)
        rows[1, 0].set_ylabel(words("watch.loss"))
        chart.tell(rows[1, 0], words(f"watch.column.{loss_name}"), curve.epochs, loss, words("watch.loss_at_epoch"))
    rows[-1, 0].set_xlabel(words("watch.epoch"))
    return chart
