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
from ro_fast.check.finding import NEW_LABELS, SECTIONS, SEVERITIES, TITLES, Finding, images
from ro_fast.data import ImageData
from ro_fast.data.check_file import Check
from ro_fast.pages import render
from ro_fast.pages.chart import Drawing
from ro_fast.pages.words import Words

SHOWN = 12  # examples per finding
SIDE = 64  # larger images are shrunk to this many pixels per side

CAPTIONS = {
    "coverage": "Training and test images by the two directions in which all of them vary most. Letters mark regions of test "
    "images of one class, by its number, around which training images are missing; a region need not stand apart in these two "
    f"directions. Of each part at most {POINTS} images are drawn.",
    "map": "A 2D map of the training images, where similar images lie close together: by class, and with the images of findings "
    "over all others in grey. The axes have no meaning of their own.",
    "margins": "Share of training images with an image of another class within a given distance. The dashed line is 2ε, below "
    "which no classifier can be right on both.",
}


def render_page(result: Check, findings: Sequence[Finding], data: ImageData, charts: Mapping[str, Drawing]) -> str:
    """The page as HTML. The same result gives the same bytes."""
    return render(
        "check.html.j2",
        Path(__file__).parent,
        t=Words(),
        result=result,
        found=result.summary,
        first=first(findings),
        looked_at=looked_at(result),
        sections={name: [_entry(f, result, data) for f in findings if f.section == name] for name in SECTIONS},
        captions={name: caption for name, caption in CAPTIONS.items() if name in charts},
        classes=[f"{number} {name}" for number, name in enumerate(data.class_names)],
        charts=charts,
    )


def summary(train: int, test: int, classes: int, findings: Sequence[Finding]) -> str:
    """The findings in one sentence."""
    size = f"{images(train, 'training image')} and {images(test, 'test image')} of {classes} classes"
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    if not counts["serious"] and not counts["warning"]:
        return f"In {size}, the check found nothing that should prevent training."
    told = []
    if counts["serious"]:
        told.append(f"{counts['serious']} serious finding{'s' * (counts['serious'] > 1)}")
    if counts["warning"]:
        told.append(f"{counts['warning']} warning{'s' * (counts['warning'] > 1)}")
    return f"In {size}, there {'is' if sum(counts[s] for s in SEVERITIES[:2]) == 1 else 'are'} {' and '.join(told)}."


def first(findings: Sequence[Finding]) -> str:
    """What to do first, in one or two sentences."""
    worst = min(findings, key=lambda finding: finding.urgency)
    if worst.severity == "info":
        go_on = "Next: ro-fast train or ro-fast ablate."
        return f"{go_on} This check sees only pixels and labels, not whether they suit the task."
    return f"First: {worst.message} {worst.advice}"


def looked_at(result: Check) -> str:
    """Which images were examined, and which were not."""
    ours, theirs = result.train.available, result.test.available
    told = f"Examined: {result.train_size} of {images(ours, 'training image')}, {len(result.validation)} of which this split "
    told += f"validates with, and {result.test_size} of {images(theirs, 'test image')}."
    left = {"training image": ours - result.train_size, "test image": theirs - result.test_size}
    if parts := [images(count, what) for what, count in left.items() if count > 0]:
        told += f" Not examined: {' and '.join(parts)} that these data.* values leave out"
        data = result.config.data
        given = [f"data.{key}=null" for key in ("train_size", "test_size") if getattr(data, key) is not None]
        given += ["data.train_share=1"] if data.train_share < 1 else []
        told += f"; {' '.join(given)} examines all." if given else "."
    return told


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

    title: str
    severity: str
    message: str
    advice: str
    cost: str  # in labels
    effect: str | None  # measured, on robust overfitting
    measure: str  # the command that measures it; "" if it was measured or nothing does
    examples: list[_Shown]
    more: int  # examples not shown
    vectors: bool  # nothing to look at, since the data are not images


def _entry(finding: Finding, result: Check, data: ImageData) -> _Entry:
    examples = finding.examples[:SHOWN] if len(data.image_shape) == 3 else []
    shown = [_Shown(example.caption, [_image(data, part, row) for part, row in example.images]) for example in examples]
    return _Entry(
        TITLES[finding.kind],
        finding.severity,
        finding.message,
        finding.advice,
        _cost(finding),
        finding.effect,
        command(result.config.data) if finding.severity != "info" and finding.effect is None and finding.kind in ARMS else "",
        shown,
        more=len(finding.examples) - len(shown),
        vectors=bool(finding.examples) and not shown,
    )


def _cost(finding: Finding) -> str:
    if not finding.labels:
        return "no label to look at"
    what = "to give to new images" if finding.kind in NEW_LABELS else "to look at"
    return f"{images(finding.labels, 'label')} {what}"


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
