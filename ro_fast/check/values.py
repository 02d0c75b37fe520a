"""Range, dtype and normalisation: are pixels on the scale in which eps is given?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ro_fast.check.finding import Example, Finding, Reason, images, percent, some
from ro_fast.data import ImageData
from ro_fast.errors import InputError

DARK = 0.5  # a maximum below this leaves half of the range unused
TWICE = 1.5 / 255  # below this, values were divided by 255 once too often


def check_eps(eps: float) -> None:
    """Raises InputError if a radius isn't one for images in [0, 1]."""
    if not 0 < eps <= 1:
        hint = f"; did you mean {eps:g}/255 = {eps / 255:.4g}?" if eps > 1 else ""
        raise InputError(f"eps = {eps:g} should be above 0 and at most 1, the range of the images{hint}")


def values(data: ImageData, eps: float) -> list[Finding]:
    """Findings on the scale of pixels; the last one describes it."""
    found = _scale(data, eps)
    found += _skipped(data) + _blank(data) + _grey(data)
    step = _grey_step(data)
    top = float(data.x_train.max()) / data.scale
    kind = "bytes" if data.x_train.dtype == torch.uint8 else "floats"
    bottom = float(data.x_train.min()) / data.scale
    message = f"Training images are stored as {kind}, from {bottom:.3g} to {top:.3g} after scaling to [0, 1]"
    message += f"; eps = {eps:.4g} is {eps * 255:.3g}/255"
    severity, advice = "info", "Nothing to do."
    if step is not None:
        message += f", or {eps / step:.2g} grey steps of {step:.3g}"
        if eps < step / 2:
            advice = (
                "A perturbation below half a grey step vanishes when images are rounded to their own steps: such a radius is "
                "mathematical, not physical. Choose eps by what a camera or an attacker could change."
            )
    found.append(Finding("range", severity, 0, 0.0, message + ".", advice))
    return found


def _scale(data: ImageData, eps: float) -> list[Finding]:
    tops = {part: float(x.max()) / data.scale for part, x in (("training", data.x_train), ("test", data.x_test))}
    high = max(tops.values())
    everything = len(data.x_train) + len(data.x_test)
    found = []
    if high <= TWICE:
        message = f"No value exceeds {high:.2g}: images were divided by 255 twice, or contain 0 and 1 instead of 0 to 255."
        advice = f"Store the bytes as read from the files, or divide only once. As is, eps = {eps:.3g} erases any image."
        found.append(Finding("range", "serious", everything, 1.0, message, advice))
    elif high < DARK:
        message = f"No value exceeds {high:.2g}, so eps = {eps:.3g} is {percent(eps / high)} of the range in use."
        advice = "Scale images so that white is 1 (or 255 in bytes), or choose eps in proportion."
        found.append(Finding("range", "serious" if high < DARK / 2 else "warning", everything, 1.0, message, advice))
    low = min(tops.values())
    if high > 0 and low < 0.6 * high:
        dark = min(tops, key=lambda part: tops[part])
        message = f"The largest value is {tops['training']:.3g} in training but {tops['test']:.3g} in test images."
        advice = "Scale both parts alike; a model trained on one fails on the other, and eps means something different in each."
        found.append(Finding("range", "serious", len(data.x_test if dark == "test" else data.x_train), 1.0, message, advice))
    return found


def _skipped(data: ImageData) -> list[Finding]:
    if not data.skipped:
        return []
    total = len(data.skipped) + sum(map(len, (data.x_train, data.x_val, data.x_test)))
    were = "was" if len(data.skipped) == 1 else "were"
    message = f"{images(len(data.skipped), 'file')} could not be read and {were} left out: {some(data.skipped)}."
    advice = "Replace these files or delete them."
    return [Finding("range", "warning", len(data.skipped), len(data.skipped) / total, message, advice)]


def _blank(data: ImageData) -> list[Finding]:
    """Images with a single value."""
    rows = []
    for x in (data.x_train, data.x_test):
        flat = x.flatten(1)
        rows.append((flat.amax(1) == flat.amin(1)).nonzero().flatten().tolist())
    train, test = rows
    count = len(train) + len(test)
    if not count:
        return []
    share = count / (len(data.x_train) + len(data.x_test))
    examples = [Example((("train", i),), f"label {data.class_name(int(data.y_train[i]))}") for i in train]
    examples += [Example((("test", i),), f"label {data.class_name(int(data.y_test[i]))}") for i in test]
    message = f"{images(count)} {'is' if count == 1 else 'are'} blank: all pixels have the same value."
    advice = "Remove them, or find out why the camera or the conversion produced no image."
    severity = "serious" if share >= 0.05 else "warning"
    action = "remove it or replace it by the real image"
    return [_of_images(severity, count, share, message, advice, train, test, examples, action)]


def _grey(data: ImageData) -> list[Finding]:
    """Grey images stored in colour."""
    if len(data.image_shape) != 3 or data.image_shape[0] != 3:
        return []
    grey, coloured = [], 0
    for x in (data.x_train, data.x_test):
        equal = (x == x[:, :1]).flatten(1).all(1)
        coloured += int((~equal).sum())
        grey.append(equal & (x.flatten(1).amax(1) > x.flatten(1).amin(1)))  # blank images are reported as blank
    count = sum(int(part.sum()) for part in grey)
    total = sum(map(len, grey))
    if not count:
        return []
    if not coloured:
        message = "All images are grey but stored in colour, as three equal channels."
        advice = "Store them as grey: this takes a third of the work, and an attack can't add colour."
        return [Finding("range", "info", count, count / total, message, advice)]
    message = f"{images(count)} of {total} {'is' if count == 1 else 'are'} grey in a set of colour images."
    advice = "Make sure that colour does not reveal the class or the split: a model will exploit that, and so will an attack."
    train, test = (part.nonzero().flatten().tolist() for part in grey)
    share = count / total
    severity = "warning" if share >= 0.01 else "info"
    examples = [Example((("train", i),), f"label {data.class_name(int(data.y_train[i]))}") for i in train]
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
