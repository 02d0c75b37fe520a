"""Range, dtype and normalisation: are pixels on the scale in which eps is given?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ro_fast.check.finding import NOTHING_TO_DO, Example, Finding, Reason, are, images, of_label, percent, some
from ro_fast.data import ImageData
from ro_fast.data.stored_images import in_memory
from ro_fast.errors import InputError
from ro_fast.said import Said

DARK = 0.5  # a maximum below this leaves half of the range unused
TWICE = 1.5 / 255  # below this, values were divided by 255 once too often


def check_eps(eps: float) -> None:
    """Raises InputError if a radius isn't one for images in [0, 1]."""
    if not 0 < eps <= 1:
        hint = f"; did you mean {eps:g}/255 = {eps / 255:.4g}?" if eps > 1 else ""
        raise InputError(f"eps = {eps:g} should be above 0 and at most 1, the range of the images{hint}")


def values(data: ImageData, eps: float) -> list[Finding]:
    """Findings on the scale of pixels, one of which describes it, and on the radius in that scale."""
    found = _scale(data, eps)
    found += _skipped(data) + _blank(data) + _grey(data)
    step = _grey_step(data)
    top = float(in_memory(data.x_train).max()) / data.scale
    kind = "bytes" if data.x_train.dtype == torch.uint8 else "floats"
    bottom = float(in_memory(data.x_train).min()) / data.scale
    steps = ""
    if step is not None:
        many = f"{eps / step:.0f}" if eps >= 10 * step else f"{eps / step:.2g}"
        steps = Said("range.steps", ", or {n} grey steps of {step}", n=many, step=f"{step:.3g}")
    message = Said(
        f"range.{kind}",
        f"Training images are stored as {kind}, from {{bottom}} to {{top}} after scaling to [0, 1]; eps = {{eps}} is "
        "{of_255}/255{steps}.",
        bottom=f"{bottom:.3g}",
        top=f"{top:.3g}",
        eps=f"{eps:.4g}",
        of_255=f"{eps * 255:.3g}",
        steps=steps,
    )
    found.append(Finding("range", "info", 0, 0.0, message, NOTHING_TO_DO))
    return found + _radius(data, eps, step)


def _radius(data: ImageData, eps: float, step: float | None) -> list[Finding]:
    """The finding on a radius so small that no stored image can hold such a change."""
    if step is None or eps >= step / 2:
        return []
    message = Said(
        "radius.found",
        "eps = {eps} is {share} of one step of grey of these images, {step}.",
        eps=f"{eps:.4g}",
        share=percent(eps / step),
        step=f"{step:.3g}",
    )
    advice = Said(
        "radius.do",
        "A change below half a step vanishes when an image is stored with its own steps: such a radius is mathematical, not "
        "physical. Choose eps by what a camera or an attacker could change.",
    )
    return [Finding("radius", "warning", len(data.x_train) + len(data.x_test), 1.0, message, advice)]


def _scale(data: ImageData, eps: float) -> list[Finding]:
    tops = {part: float(x.max()) / data.scale for part, x in (("training", in_memory(data.x_train)), ("test", data.x_test))}
    high = max(tops.values())
    everything = len(data.x_train) + len(data.x_test)
    found = []
    if high <= TWICE:
        message = Said(
            "range.twice",
            "No value exceeds {high}: images were divided by 255 twice, or contain 0 and 1 instead of 0 to 255.",
            high=f"{high:.2g}",
        )
        advice = Said(
            "range.twice_do",
            "Store the bytes as read from the files, or divide only once. As is, eps = {eps} erases any image.",
            eps=f"{eps:.3g}",
        )
        found.append(Finding("range", "serious", everything, 1.0, message, advice))
    elif high < DARK:
        message = Said(
            "range.dark",
            "No value exceeds {high}, so eps = {eps} is {share} of the range in use.",
            high=f"{high:.2g}",
            eps=f"{eps:.3g}",
            share=percent(eps / high),
        )
        advice = Said("range.dark_do", "Scale images so that white is 1 (or 255 in bytes), or choose eps in proportion.")
        found.append(Finding("range", "serious" if high < DARK / 2 else "warning", everything, 1.0, message, advice))
    low = min(tops.values())
    if high > 0 and low < 0.6 * high:
        dark = min(tops, key=lambda part: tops[part])
        message = Said(
            "range.unlike",
            "The largest value is {training} in training but {test} in test images.",
            **{part: f"{top:.3g}" for part, top in tops.items()},
        )
        advice = Said(
            "range.unlike_do",
            "Scale both parts alike; a model trained on one fails on the other, and eps means something different in each.",
        )
        found.append(Finding("range", "serious", len(data.x_test if dark == "test" else data.x_train), 1.0, message, advice))
    return found


def _skipped(data: ImageData) -> list[Finding]:
    if not data.skipped:
        return []
    total = len(data.skipped) + sum(map(len, (data.x_train, data.x_val, data.x_test)))
    message = Said(
        "range.skipped",
        "{files} could not be read and {were} left out: {names}.",
        files=images(len(data.skipped), "file"),
        were="was" if len(data.skipped) == 1 else "were",
        names=some(data.skipped),
    )
    advice = Said("range.skipped_do", "Replace these files or delete them.")
    return [Finding("range", "warning", len(data.skipped), len(data.skipped) / total, message, advice)]


def _blank(data: ImageData) -> list[Finding]:
    """Images with a single value."""
    rows = []
    for x in (in_memory(data.x_train), data.x_test):
        flat = x.flatten(1)
        rows.append((flat.amax(1) == flat.amin(1)).nonzero().flatten().tolist())
    train, test = rows
    count = len(train) + len(test)
    if not count:
        return []
    share = count / (len(data.x_train) + len(data.x_test))
    examples = [Example((("train", i),), of_label(data.class_name(int(data.y_train[i])))) for i in train]
    examples += [Example((("test", i),), of_label(data.class_name(int(data.y_test[i])))) for i in test]
    shown = {"images": images(count), "are": are(count)}
    message = Said("range.blank", "{images} {are} blank: all pixels have the same value.", **shown)
    advice = Said("range.blank_do", "Remove them, or find out why the camera or the conversion produced no image.")
    severity = "serious" if share >= 0.05 else "warning"
    action = "remove it or replace it by the real image"
    return [_of_images(severity, count, share, message, advice, train, test, examples, action)]


def _grey(data: ImageData) -> list[Finding]:
    """Grey images stored in colour."""
    if len(data.image_shape) != 3 or data.image_shape[0] != 3:
        return []
    grey, coloured = [], 0
    for x in (in_memory(data.x_train), data.x_test):
        equal = (x == x[:, :1]).flatten(1).all(1)
        coloured += int((~equal).sum())
        grey.append(equal & (x.flatten(1).amax(1) > x.flatten(1).amin(1)))  # blank images are reported as blank
    count = sum(int(part.sum()) for part in grey)
    total = sum(map(len, grey))
    if not count:
        return []
    if not coloured:
        message = Said("range.all_grey", "All images are grey but stored in colour, as three equal channels.")
        advice = Said("range.all_grey_do", "Store them as grey: this takes a third of the work, and an attack can't add colour.")
        return [Finding("range", "info", count, count / total, message, advice)]
    shown = {"images": images(count), "total": total, "are": are(count)}
    message = Said("range.grey", "{images} of {total} {are} grey in a set of colour images.", **shown)
    advice = Said(
        "range.grey_do",
        "Make sure that colour does not reveal the class or the split: a model will exploit that, and so will an attack.",
    )
    train, test = (part.nonzero().flatten().tolist() for part in grey)
    share = count / total
    severity = "warning" if share >= 0.01 else "info"
    examples = [Example((("train", i),), of_label(data.class_name(int(data.y_train[i])))) for i in train]
    action = "look whether its class or split has more grey images than others"
    return [_of_images(severity, count, share, message, advice, train, test, examples, action)]


def _of_images(
    severity: str,
    count: int,
    share: float,
    message: str,
    advice: str,
    train: list[int],
    test: list[int],
    examples: list[Example],
    action: str,
) -> Finding:
    """A finding on images that all ask for the same."""
    found = Finding("range", severity, count, share, message, advice, train, test, examples)
    return replace(found, reasons=dict.fromkeys(found.images(), Reason(action)))


def _grey_step(data: ImageData) -> float | None:
    """The smallest difference between occurring values, in [0, 1] units; None if there are more than 256 of them."""
    used = np.unique(data.x_train[:2000].numpy())
    if not 2 <= len(used) <= 256:
        return None
    return float(np.diff(used).min()) / data.scale
