"""The whole check: one step after the other, then check.json, check.csv and check.html."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ro_fast.check.balance import balance
from ro_fast.check.duplicates import duplicates
from ro_fast.check.effects import effect, measured
from ro_fast.check.figures import Pictures, draw_figures
from ro_fast.check.finding import Finding, images, percent
from ro_fast.check.images import COMPONENTS, SIDE, Images
from ro_fast.check.label_errors import label_errors
from ro_fast.check.margins import customary_l2, margins
from ro_fast.check.page import page_words, render_page, summary
from ro_fast.check.progress import log
from ro_fast.check.shift import shift
from ro_fast.check.table import table
from ro_fast.check.uncovered import uncovered
from ro_fast.check.unrepresentative import unrepresentative
from ro_fast.check.values import check_eps, values
from ro_fast.config import CheckConfig
from ro_fast.config_values import check_values
from ro_fast.data import ImageData, load_data
from ro_fast.data.check_file import VERSION, Check, CheckStep, examined, read_check
from ro_fast.environment import environment, use_threads
from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.said import SEMICOLON, Said, together
from ro_fast.storage.checkpoint import write_text
from ro_fast.storage.paths import own_folder
from ro_fast.storage.records import write
from ro_fast.storage.run_folder import alone_in
from ro_fast.storage.saving import writing

# name, and what is examined by which method
STEPS = {
    "reading": (Said("step.reading", "reading"), Said("how.reading", "files and arrays, their shape, dtype and range")),
    "values": (Said("step.values", "values"), Said("how.values", "range, dtype, blank and grey images, the unit of eps")),
    "balance": (
        Said("step.balance", "class balance"),
        Said("how.balance", "counts of each class in training, validation and test"),
    ),
    "duplicates": (Said("step.duplicates", "duplicates and leakage"), ""),
    "labels": (
        Said("step.labels", "label errors"),
        Said("how.labels", "nearest images and a kernel classifier, neither of which saw the image"),
    ),
    "shift": (Said("step.shift", "shift"), Said("how.shift", "a classifier two-sample test; class means by Hotelling's T²")),
    "margins": (
        Said("step.margins", "margins"),
        Said("how.margins", "nearest training image of another class, in L∞ and L2"),
    ),
    "unrepresentative": (
        Said("step.unrepresentative", "unlike the test images"),
        Said("how.unrepresentative", "distance to the five nearest test images"),
    ),
    "uncovered": (
        Said("step.uncovered", "test images that training misses"),
        Said("how.uncovered", "the share of training images among the nearest images of its class, for each test image"),
    ),
}


class _Steps:
    """Runs the steps, announces each, and records its duration and what it examined."""

    def __init__(self, names: int) -> None:
        self.done: list[CheckStep] = []
        self._names = names

    def __call__(self, name: str, looked_at: str, work: Callable[[], Any]) -> Any:
        log.info("check %d/%d: %s", len(self.done) + 1, self._names, name)
        start = time.monotonic()
        result = work()
        self.done.append(CheckStep(name, looked_at, round(time.monotonic() - start, 2)))
        return result

    def add(self, looked_at: str) -> None:
        """Adds details on what the last step examined."""
        self.done[-1] = dataclasses.replace(self.done[-1], looked_at=together([self.done[-1].looked_at, looked_at], SEMICOLON))


def check(config: CheckConfig) -> Check:
    """Examines a data set before any training, and writes ``check.json``, ``check.csv``, ``check.html`` and
    ``figures/*.png`` into config.out.

    Examined are all images that config.data gives: those to train on, those that would be validated with, and the test images;
    without data.train_size, data.train_share and data.test_size these are all images of the source. Images are named by the
    numbers, files and classes that the user knows them by (``Check.numbering``), so ``data.exclude`` refers to the same images
    whatever the split and the sizes. Everything is determined by the data and config.seed.

    Returns:
        The contents of check.json.

    Raises:
        InputError: on bad data or values, a folder that cannot be written, or a missing package.
    """
    for module in ("sklearn", "scipy", "matplotlib", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"the check needs {module}: {pip_install('train')}")
    check_values(config)
    if config.data.exclude is not None:
        raise InputError("check examines all the data: leave data.exclude out here and use it in training")
    words = page_words(config.report.language)
    eps = config.data.eps if config.eps is None else config.eps
    check_eps(eps)
    out = own_folder(config.out, ("check.csv", "check.json"), ["check.html", "figures"])
    if (out / "check.json").exists():
        _same_data(config, out / "check.json")
    start = time.monotonic()
    use_threads(config.threads)
    with alone_in(out), _limit(config.threads):
        seen = _look(config, eps)
        result = dataclasses.replace(seen.result, wall_seconds=round(time.monotonic() - start, 1))
        with writing(out):
            # First what tells that the folder is ours (see own_folder); with a byte order mark, by which Excel knows UTF-8.
            write_text(out / "check.csv", "\ufeff" + table(seen.findings, seen.data, seen.validates))
            figures = draw_figures(seen.pictures, words, out / "figures")
            write_text(out / "check.html", render_page(result, seen.findings, seen.data, figures, words))
            write(out / "check.json", result, indent=None)  # last: it says that the check is complete
    return result


def _same_data(config: CheckConfig, path: Path) -> None:
    """Raises InputError if the folder holds the check of other data; one that can't be read is written anew."""
    try:
        there = read_check(path).config.data
    except InputError:
        return
    if (there.name, there.path) != (config.data.name, config.data.path):
        told = f"data={there.name}" + (f" data.path={there.path}" if there.path else "")
        raise InputError(f"{path} is the check of {told}; choose another out=")


@dataclass(frozen=True)
class _Seen:
    """What the page needs besides the contents of check.json."""

    result: Check
    findings: list[Finding]
    pictures: Pictures
    data: ImageData  # with the validation images among those to train on
    validates: np.ndarray  # bool [N] which of them these are


def _look(config: CheckConfig, eps: float) -> _Seen:
    effects = measured(config)
    step = _Steps(len(STEPS))
    split = step(*STEPS["reading"], lambda: load_data(config.data))
    data = split.pooled()
    validates = np.isin(data.rows_train, split.rows_val)
    view = Images(data, config.seed, validates)
    found = step(*STEPS["values"], lambda: values(data, eps))
    found += step(*STEPS["balance"], lambda: balance(view))
    repeated, criterion = step(*STEPS["duplicates"], lambda: duplicates(view))
    step.add(criterion)
    labels = step(*STEPS["labels"], lambda: label_errors(view))
    step.add(Said("step.agree", "they agree with {share} of the labels", share=percent(labels.accuracy)))
    moved, two_sample = step(*STEPS["shift"], lambda: shift(view))
    eps_l2 = config.eps_l2 or customary_l2(eps, data.x_train[0].numel())
    wide = step(*STEPS["margins"], lambda: margins(view, eps, eps_l2))
    step.add(Said("step.of", "of {images}", images=images(len(wide.rows), "training image")))
    far = step(*STEPS["unrepresentative"], lambda: unrepresentative(view))
    missed, regions = step(*STEPS["uncovered"], lambda: uncovered(view))
    found += [*repeated, *labels.findings, *moved, *wide.findings, *far, missed]
    findings = [
        finding if finding.severity == "info" else dataclasses.replace(finding, effect=effect(finding.kind, effects))
        for finding in sorted(found, key=lambda finding: finding.place)
    ]
    shrunk = Said("compared.shrunk", " (averaged down to sides of at most {side})", side=SIDE)
    compared_as = Said(
        "compared.told",
        "{values} values per image{shrunk}, {components} principal components",
        values=view.train.shape[1],
        shrunk=shrunk if view.train.shape[1] < data.x_train[0].numel() else "",
        components=min(COMPONENTS, view.features[0].shape[1]),
    )
    train, test = examined(data)
    result = Check(
        version=VERSION,
        data=data.name,
        train_size=len(data.x_train),
        test_size=len(data.x_test),
        validation=split.rows_val.tolist(),
        classes=data.num_classes,
        image_shape=list(data.image_shape),
        compared_as=compared_as,
        fingerprint=split.fingerprint(),
        numbering=data.numbering,
        train=train,
        test=test,
        summary=summary(len(data.x_train), len(data.x_test), data.num_classes, findings),
        findings=[finding.stored(data) for finding in findings],
        label_error_score=[round(float(score), 6) for score in labels.score],
        label_accuracy=labels.accuracy,
        two_sample_test=two_sample,
        checks=step.done,
        config=config,
        environment=environment(torch.device("cpu")),
        wall_seconds=0.0,
    )
    return _Seen(result, findings, Pictures(view, findings, wide, regions), data, validates)


def _limit(threads: int | None) -> AbstractContextManager[Any]:
    """Limits BLAS and OpenMP of SciPy and scikit-learn to a number of threads."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads)
