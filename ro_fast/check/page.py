"""check.html: one self-contained page that opens offline: the findings, what to do first, their cost, and images to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ro_fast.check.effects import ARMS, command
from ro_fast.check.figures import POINTS
from ro_fast.check.finding import NEW_LABELS, NOTHING_TO_DO, SECTIONS, SEVERITIES, Finding, are, images
from ro_fast.data import ImageData
from ro_fast.data.check_file import Check
from ro_fast.data.naming import short_name
from ro_fast.pages import render
from ro_fast.pages.chart import Drawing
from ro_fast.pages.words import Words
from ro_fast.said import AND, COMMA, Said, together

SHOWN = 12  # examples per finding
SIDE = 64  # larger images are shrunk to this many pixels per side


def page_words(language: str | None) -> Words:
    """The texts of the page.

    Raises:
        InputError: if there are none in that language.
    """
    return Words(Path(__file__).parent / "texts", language or "en")


def render_page(
    result: Check, findings: Sequence[Finding], data: ImageData, charts: Mapping[str, Drawing], words: Words
) -> str:
    """The page as HTML. The same result gives the same bytes."""
    names = [f"{number} {name}" for number, name in enumerate(data.class_names)]
    return render(
        "check.html.j2",
        Path(__file__).parent,
        t=words,
        say=words.say,
        result=result,
        name=short_name(result.config.data.name, result.config.data.path),
        first=first(findings),
        looked_at=looked_at(result),
        sections={name: [_entry(f, result, data, words) for f in findings if f.section == name] for name in SECTIONS},
        points=POINTS,
        classes=words.say(together(names, COMMA)),
        charts=charts,
    )


def summary(train: int, test: int, classes: int, findings: Sequence[Finding]) -> str:
    """The findings in one sentence."""
    size = Said(
        "summary.size",
        "{train} and {test} of {classes}",
        train=images(train, "training image"),
        test=images(test, "test image"),
        classes=Said("count.class", "{n} classes", n=classes),
    )
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    if not counts["serious"] and not counts["warning"]:
        return Said("summary.sound", "In {size}, the check found nothing that should prevent training.", size=size)
    told = [images(counts["serious"], "serious finding")] if counts["serious"] else []
    told += [images(counts["warning"], "warning")] if counts["warning"] else []
    verb = are(counts["serious"] + counts["warning"])
    return Said("summary.found", "In {size}, there {are} {counts}.", size=size, are=verb, counts=together(told, AND))


def first(findings: Sequence[Finding]) -> str:
    """What to do first, in one or two sentences."""
    worst = min(findings, key=lambda finding: finding.urgency)
    if worst.severity == "info":
        return Said(
            "first.next",
            "Next: ro-fast train or ro-fast ablate. This check sees only pixels and labels, not whether they suit the task.",
        )
    return Said("first.do", "First: {message} {advice}", message=worst.message, advice=worst.advice)


def looked_at(result: Check) -> str:
    """Which images were examined, and which were not."""
    ours, theirs = result.train.available, result.test.available
    told = Said(
        "looked_at.told",
        "Examined: {train} of {ours}, {validation} of which this split validates with, and {test} of {theirs}.",
        train=result.train_size,
        ours=images(ours, "training image"),
        validation=len(result.validation),
        test=result.test_size,
        theirs=images(theirs, "test image"),
    )
    left = {"training image": ours - result.train_size, "test image": theirs - result.test_size}
    if not (parts := [images(count, what) for what, count in left.items() if count > 0]):
        return told
    data = result.config.data
    given = [f"data.{key}=null" for key in ("train_size", "test_size") if getattr(data, key) is not None]
    given += ["data.train_share=1"] if data.train_share < 1 else []
    options = Said("looked_at.options", "; {options} examines all.", options=" ".join(given)) if given else "."
    rest = "Not examined: {left} that these data.* values leave out{options}"
    return together([told, Said("looked_at.left", rest, left=together(parts, AND), options=options)])


@dataclass(frozen=True)
class _Image:
    name: str
    png: str  # base64


@dataclass(frozen=True)
class _Shown:
    caption: str
    images: list[_Image]


@dataclass(frozen=True)
class _Entry:
    """A finding as shown on the page."""

    kind: str
    title: str
    severity: str
    message: str
    advice: str  # "" if there is nothing to do
    cost: str  # in labels
    effect: str | None  # measured, on robust overfitting
    measure: str  # the command that measures it; "" if it was measured or nothing does
    examples: list[_Shown]
    more: int  # examples not shown
    vectors: bool  # nothing to look at, since the data are not images


def _entry(finding: Finding, result: Check, data: ImageData, words: Words) -> _Entry:
    examples = finding.examples[:SHOWN] if len(data.image_shape) == 3 else []
    shown = [_Shown(words.say(e.caption), [_image(data, part, row) for part, row in e.images]) for e in examples]
    return _Entry(
        finding.kind,
        words.texts["title_of"].get(getattr(finding.message, "key", ""), words(f"kind.{finding.kind}")),
        finding.severity,
        words.say(finding.message),
        "" if finding.advice == NOTHING_TO_DO else words.say(finding.advice),
        words.say(_cost(finding)),
        None if finding.effect is None else words.say(finding.effect),
        command(result.config.data) if finding.severity != "info" and finding.effect is None and finding.kind in ARMS else "",
        shown,
        more=len(finding.examples) - len(shown),
        vectors=bool(finding.examples) and not shown,
    )


def _cost(finding: Finding) -> str:
    if not finding.labels:
        return Said("cost.none", "no label to look at.")
    labels = images(finding.labels, "label")
    if finding.kind in NEW_LABELS:
        return Said("cost.give", "{labels} to give to new images.", labels=labels)
    return Said("cost.look", "{labels} to look at.", labels=labels)


def _image(data: ImageData, part: str, row: int) -> _Image:
    return _Image(data.name_of(part, row), _png(data, part, row))


def _png(data: ImageData, part: str, row: int) -> str:
    from PIL import Image

    stored = (data.x_train if part == "train" else data.x_test)[row : row + 1]
    pixels = (data.images(stored)[0] * 255).round().byte().permute(1, 2, 0).numpy()  # [H, W, C]
    if pixels.shape[2] not in (1, 3):
        pixels = pixels.mean(2, keepdims=True).astype(np.uint8)  # bands that no screen can show
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
