"""The measurement of the detector: its page holds its file's figures, and a family left out has no say in its constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ro_fast import Watch
from ro_fast.benchmarks import detector
from ro_fast.overfitting import detector as detector_module
from ro_fast.overfitting import early_stop
from ro_fast.overfitting.detector import CONSTANTS


def test_the_page_says_what_the_file_holds() -> None:
    report = detector.read_report(detector.FILE)
    assert detector.FILE.with_suffix(".md").read_text(encoding="utf-8") == detector.page(report)
    names = sorted(name for family in report.families for name in family.curves)
    assert names == sorted(path.stem for path in detector.CURVES.glob("*.csv"))


def test_the_file_holds_what_the_detector_does_on_real_curves() -> None:
    report = detector.read_report(detector.FILE)
    curves = {name: detector.real_curve(name) for family in report.families for name in family.curves}
    for key, there in detector.COLUMNS.items():
        found = detector.figures([detector.seen(curve, *there) for curve in curves.values()], CONSTANTS)
        assert found == report.defaults_real[key]
    for family in report.families:
        cases = [detector.seen(curves[name], True, True) for name in family.curves]
        assert detector.figures(cases, family.constants) == family.real[detector.FULL]


def test_docstrings_say_what_was_measured() -> None:
    report = detector.read_report(detector.FILE)
    columns = list(detector.COLUMNS)
    left_out = {key: detector.added([family.real[key] for family in report.families]) for key in columns}
    varied = detector.added([family.variants[detector.FULL] for family in report.families])
    here, perturbed, found = report.defaults_real[columns[0]], report.defaults_variants[columns[0]], left_out[columns[0]]
    rates = [sorted(round(100 * alarmed / flat.curves) for alarmed in flat.alarmed.values()) for flat in report.flat]
    medians = [f"{np.median(left_out[key].delays):g}" for key in columns]
    assert here.detected == here.overfit == here.sound == found.overfit == found.sound == 5
    assert here.false_alarms == found.false_alarms == 0
    said = " ".join(f"{detector_module.__doc__} {early_stop.EarlyStop.__doc__}".split())
    for words in (
        f"raise an alarm, {here.delays[0]} to {here.delays[-1]} epochs after the best, and none of the 5",
        f"variants of them it is {percent(perturbed.detected, perturbed.overfit)} "
        f"and {percent(perturbed.false_alarms, perturbed.sound)} (noise",
        f"they find {found.detected} of {found.overfit} in the families left out, with no alarm on the {found.sound} sound ones",
        f"{found.delays[0]} to {found.delays[-1]} epochs after the best, {medians[0]} in the median "
        f"({medians[1]} without train accuracy, {medians[3]} with neither column)",
        f"on variants {percent(varied.detected, varied.overfit)} and {percent(varied.false_alarms, varied.sound)};",
        "10 000 test images, none raises an alarm",
        f"of 1000 images {rates[1][0]} to {rates[1][-1]} % do, of 300 images {rates[0][0]} to {rates[0][-1]} %",
        f"perturbed variants {perturbed.early}, of which {perturbed.early_gained} rose",
    ):
        assert words in said
    assert (here.early, here.early_gained) == (2, 0) and rates[2][-1] == 0


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def test_alarms_stand_as_in_the_watch() -> None:
    curve = detector.real_curve("svhn_standard__preactresnet18")
    slow = replace(CONSTANTS, alarm=4.0, ahead=2.0)
    monitor, told = Watch(slow), []
    for acc, loss in zip(curve.acc, curve.loss, strict=True):
        told.append(monitor.update(float(acc), robust_loss=float(loss)).overfitting is True)
    assert detector.standing(detector.seen(curve, True, False).evidence, slow) == told and any(told)


def test_variants_are_what_they_are_called() -> None:
    curve = detector.real_curve("cifar10_standard__preactresnet18")
    kinds: dict[str, list[detector.Curve]] = {}
    for kind, variant in detector.variants(curve, np.random.default_rng(0)):
        kinds.setdefault(kind, []).append(variant)
        assert variant.acc.min() >= 0 and variant.acc.max() <= 1 and len(variant.acc) == len(variant.loss) == len(variant.train)
    assert sum(map(len, kinds.values())) == 26
    assert all(variant.gap == curve.gap for variant in kinds["1000 images"])
    assert [variant.gap for variant in kinds["smaller fall"]] == sorted((v.gap for v in kinds["smaller fall"]), reverse=True)
    assert kinds["smaller fall"][-1].gap < 0.03 < curve.gap
    assert [variant.drop for variant in kinds["thinned"]] == [50, 33, 25, 20]


NOTHING = detector.Figures(5, 0, 5, 0, 0, 0, [], 0, 0)


@pytest.mark.parametrize(
    ("tried", "chosen"),
    [
        ([(3, 0, 9), (5, 0, 9), (5, 3, 1)], 1),  # detections minus false alarms
        ([(5, 0, 9), (5, 0, 7), (4, 0, 2)], 1),  # the earlier among equals
        ([(5, 0, 7), (5, 0, 7), (4, 0, 2)], 0),  # the first among equals
    ],
)
def test_constants_are_chosen_by_the_stated_criterion(tried: list[tuple[int, int, int]], chosen: int) -> None:
    some = [replace(NOTHING, detected=hits, false_alarms=wrong, delays=[delay]) for hits, wrong, delay in tried]
    grid = [*some, *[NOTHING] * (len(detector.GRID) - len(some))]
    left_out = [NOTHING, NOTHING, *[replace(NOTHING, detected=99)] * (len(detector.GRID) - 2)]
    known = {"one": grid, "two": [NOTHING] * len(detector.GRID), "left out": left_out}
    assert detector.fitted(known, ["one", "two"]) == detector.GRID[chosen]


def test_what_is_said_comes_true() -> None:
    """Where there are enough prefixes, within 15 points; a probability is never far from what it says."""
    report = detector.read_report(detector.FILE)
    assert sum(each.prefixes for each in report.calibration if each.standing) > 1000
    assert all(abs(each.said - each.true) < 0.15 for each in report.calibration if each.prefixes >= 30)
