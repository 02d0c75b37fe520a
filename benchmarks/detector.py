"""``python -m ro_fast.benchmarks.detector``: the detector of robust overfitting on curves that its constants were not fitted to.

The 16 public curves fall into families (:data:`FAMILIES`). For each family, the constants are refitted on all others and on 26
perturbed variants of each curve, and then judge the family that was left out, with its variants. Each curve is judged four times:
with loss and train accuracy, without either, and without both.

* A curve **overfits** if it ends (mean of the last five values) more than 5 points below its best value, and is **sound** if it
  ends less than 1.5 points below. What lies between counts as neither. Variants with added noise are classed without that noise,
  which would raise their best value.
* It is **detected** if an alarm stands at its best epoch or later; the **delay** is the number of values from the best one to the
  first such. Any alarm on a sound curve is a **false alarm**.
* The constants are the ones of :data:`GRID` with the most overfitting curves detected minus false alarms; among equals, those
  with the smallest mean delay; among equals, the first.
* An alarm is **early** if it comes before the learning rate has first fallen to half its highest value. The curve **gained**
  afterwards if the highest level (median of four) from the drop on is above the highest before the alarm.

**Calibration**: at prefixes of the public curves, as they are and with the noise of test sets of 300, 1000 and 3000 images, and
of simulated flat curves, what the detector says of its answer against what is true of the curve without that noise (its
running median): while an alarm stands, that it ends more than 2 points below its best; otherwise, that it is so far below it
now. Families weigh alike, and flat curves a third of all. ``--fit`` fits the two logistic functions anew and prints them.

Simulated flat curves learn and then stay at 50 %; each value is an independent draw of a test set of that size, and so is the
noise of variants. A real test set is the same at each epoch, so that its values vary less: these are the worst cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ro_fast.overfitting.curve_files import read_curve
from ro_fast.overfitting.curve_files.csv_file import read_csv
from ro_fast.overfitting.detector import CONSTANTS, MIN_VALUES, Constants, Evidence, Watch, probability
from ro_fast.storage.records import as_json, parse

from .run import RESULTS

FILE = RESULTS / "cpu" / "detector.json"
CURVES = Path(__file__).resolve().parent.parent / "tests/overfitting/curves"
FAMILIES = {
    "CIFAR-10, standard": ("cifar10_standard__preactresnet18",),
    "learning rates": (
        "cifar10_lr__preactresnet18_cosine",
        "cifar10_lr__preactresnet18_cyclic",
        "cifar10_startlr__preactresnet_0.5",
        "cifar10_droplr__preactresnet_0.03",
        "cifar10_dropepoch__preactresnet_80",
    ),
    "regularisers": (
        "cifar10_l2__preactresnet18_5e-2",
        "cifar10_cutout__preactresnet18_10",
        "cifar10_cutout__preactresnet18_16",
        "cifar10_mixup__preactresnet18_1.0",
        "cifar10_mixup__preactresnet18_1.4",
    ),
    "widths": ("cifar10_wide__wideresnet_1", "cifar10_wide__wideresnet_10"),
    "CIFAR-10, L2": ("cifar10_standard_l2__preactresnet18_0",),
    "CIFAR-100": ("cifar100_standard__preactresnet18",),
    "SVHN": ("svhn_standard__preactresnet18",),
}
COLUMNS = {  # with loss, with train accuracy
    "loss and train accuracy": (True, True),
    "no train accuracy": (True, False),
    "no loss": (False, True),
    "neither": (False, False),
}
GRID = [
    Constants(*values)
    for values in itertools.product(
        (1.5, 2.0, 2.5, 3.0, 4.0, 5.0), (2.0, 4.0, 8.0, 12.0), (1.0, 1.3, 2.0, 3.0), (1.5, 2.0, 3.0), (2.0, 3.0, 4.0)
    )
]
FULL = next(iter(COLUMNS))
OVERFIT, SOUND = 0.05, 0.015
SEED = 0
IMAGES = (300, 1000, 10_000)  # of the simulated test sets
FLAT = 300  # curves for each


@dataclass(frozen=True)
class Curve:
    """Robust test accuracy, loss and robust train accuracy [n], the first drop of the learning rate, and what the curve is."""

    acc: np.ndarray
    loss: np.ndarray
    train: np.ndarray
    drop: int | None = None  # index; None: not reached
    gap: float = 0.0  # fraction; without added noise
    best: int = 0  # index; without added noise

    @property
    def overfits(self) -> bool:
        return self.gap > OVERFIT

    @property
    def sound(self) -> bool:
        return self.gap < SOUND

    def classed(self) -> Curve:
        """With the gap and best epoch of its values."""
        return replace(self, gap=float(self.acc.max() - self.acc[-5:].mean()), best=int(self.acc.argmax()))


@dataclass(frozen=True)
class Figures:
    """Results on some curves, each judged with the columns that are there."""

    overfit: int
    detected: int
    sound: int
    false_alarms: int
    between: int
    between_alarmed: int
    delays: list[int]  # of those detected, in values
    early: int  # curves with an alarm before the learning rate drops
    early_gained: int


@dataclass(frozen=True)
class Family:
    """A family's figures under constants fitted to the others: per set of columns, on its own curves and on their variants."""

    name: str
    curves: list[str]
    constants: Constants
    real: dict[str, Figures]
    variants: dict[str, Figures]
    kinds: dict[str, Figures]  # of variants, with loss and train accuracy


@dataclass(frozen=True)
class Flat:
    """False alarms on simulated flat curves, by columns."""

    images: int
    curves: int
    alarmed: dict[str, int]
    standing: dict[str, int]  # at the end
    alarmed_fitted: dict[str, int]  # with constants fitted to all public curves


@dataclass(frozen=True)
class Calibrated:
    """What was said at some prefixes and what came true, as weighted means."""

    standing: bool
    prefixes: int
    said: float
    true: float


@dataclass(frozen=True)
class Report:
    """detector.json."""

    families: list[Family]
    defaults_real: dict[str, Figures]  # the package's constants, on the curves they were chosen on
    defaults_variants: dict[str, Figures]
    defaults_kinds: dict[str, Figures]
    fitted: Constants  # to all families
    flat: list[Flat]
    calibration: list[Calibrated]


# -- curves ------------------------------------------------------------------------------------------------------------


def real_curve(name: str) -> Curve:
    """A public curve."""
    path = CURVES / f"{name}.csv"
    columns = read_curve(path).columns
    rates = [float(str(row.cells["lr"])) for row in read_csv(path.read_text(encoding="utf-8"), str(path))]
    tops = np.maximum.accumulate(rates)
    drop = next((index for index, rate in enumerate(rates) if rate <= tops[index] / 2), None)
    acc, loss, train = (np.array(columns[key]) for key in ("test_robust_acc", "test_robust_loss", "train_robust_acc"))
    return Curve(acc, loss, train, drop).classed()


def variants(curve: Curve, rng: np.random.Generator) -> list[tuple[str, Curve]]:
    """26 perturbed variants of a curve, each with its kind."""
    n = len(curve.acc)
    kinds = {
        **{f"{images} images": [noisy(curve, images, rng) for _ in range(2)] for images in (300, 1000, 3000)},
        "truncated": [resampled(curve, np.arange(int(n * part))) for part in (0.5, 0.6, 0.7, 0.8, 0.9)],
        "thinned": [resampled(curve, np.arange(0, n, every)) for every in (2, 3, 4, 5)],
        "stretched": [stretched(curve, factor, rng) for factor in (1.5, 2.0, 3.0)],
        "rescaled": [scaled(curve, factor) for factor in (0.5, 0.75, 1.1, 1.2)],
        "smaller fall": [smaller_fall(curve, part) for part in (0.8, 0.6, 0.4, 0.2)],
    }
    return [(kind, variant) for kind, made in kinds.items() for variant in made]


def noisy(curve: Curve, images: int, rng: np.random.Generator) -> Curve:
    """As on a test set of this many images, drawn anew at each epoch. The gap is that of the curve without this noise."""
    spread = rng.normal(size=len(curve.acc)) / np.sqrt(images)  # in standard deviations of one image
    acc = np.clip(curve.acc + spread * np.sqrt(curve.acc * (1 - curve.acc)), 0, 1)
    # A wrong image costs more loss, so both move together; the rest of the loss varies by about a nat an image.
    loss = curve.loss - spread + rng.normal(size=len(curve.acc)) / np.sqrt(images)
    return replace(curve, acc=acc, loss=loss)


def resampled(curve: Curve, at: np.ndarray) -> Curve:
    """Only some epochs."""
    drop = None if curve.drop is None or curve.drop > at[-1] else int(np.searchsorted(at, curve.drop))
    return Curve(curve.acc[at], curve.loss[at], curve.train[at], drop).classed()


def stretched(curve: Curve, factor: float, rng: np.random.Generator) -> Curve:
    """Slower: the trend is interpolated, and each value's distance from it is that of a neighbouring epoch."""
    n = len(curve.acc)
    at = np.linspace(0, n - 1, int(n * factor))
    near = np.clip(at.round().astype(int) + rng.integers(-4, 5, len(at)), 0, n - 1)

    def slow(values: np.ndarray) -> np.ndarray:
        return np.interp(at, np.arange(n), trend(values)) + (values - trend(values))[near]

    acc, train = (np.clip(slow(values), 0, 1) for values in (curve.acc, curve.train))
    drop = None if curve.drop is None else int(np.searchsorted(at, curve.drop))
    return Curve(acc, slow(curve.loss), train, drop).classed()


def scaled(curve: Curve, factor: float) -> Curve:
    """A harder or easier problem: accuracies times a factor, which is limited to what keeps them below 1."""
    factor = min(factor, 1 / max(curve.acc.max(), curve.train.max()))
    return replace(curve, acc=curve.acc * factor, train=curve.train * factor).classed()


def smaller_fall(curve: Curve, share: float) -> Curve:
    """Of its fall below its best level so far, and of its rise of loss above that of the best level, only a share remains."""
    acc, loss = trend(curve.acc), trend(curve.loss)
    fall = np.maximum.accumulate(acc) - acc
    peak = np.maximum.accumulate(np.where(acc >= np.maximum.accumulate(acc), np.arange(len(acc)), 0))
    rise = np.maximum(0, loss - loss[peak])
    return replace(curve, acc=curve.acc + (1 - share) * fall, loss=curve.loss - (1 - share) * rise).classed()


def trend(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Running median, which keeps the jump at a drop of the learning rate."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def flat_curves(images: int, rng: np.random.Generator) -> Iterator[Curve]:
    """Curves that learn and stay, by turns of 50, 100 and 200 epochs."""
    for index in range(FLAT):
        n = (50, 100, 200)[index % 3]
        acc = 0.5 * (1 - 0.7 * np.exp(-12 * np.arange(n) / n))
        train = np.clip(acc + 0.02 + rng.normal(0, 0.002, n), 0, 1)
        yield noisy(Curve(acc, 2.3 - 2 * acc, train), images, rng)


# -- judging -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A curve with the evidence at each of its values: with these, constants are tried without computing it anew."""

    kind: str  # of variant
    curve: Curve
    evidence: list[Evidence]


def seen(curve: Curve, loss: bool, train: bool, kind: str = "") -> Seen:
    """What the detector sees of a curve, with or without its loss and train accuracy."""
    watch, evidence = Watch(), []
    for index, acc in enumerate(curve.acc):
        watch.update(
            float(acc),
            robust_loss=float(curve.loss[index]) if loss else None,
            train_robust_acc=float(curve.train[index]) if train else None,
        )
        evidence.append(watch.evidence)
    return Seen(kind, curve, evidence)


def standing(evidence: Sequence[Evidence], constants: Constants) -> list[bool]:
    """At each value, whether an alarm stands: as in :class:`Watch`."""
    stands, found = False, []
    for index, each in enumerate(evidence):
        stands = index + 1 >= MIN_VALUES and each.alarmed(stands, constants)
        found.append(stands)
    return found


def figures(cases: Sequence[Seen], constants: Constants) -> Figures:
    """What the detector says on some curves."""
    alarms = [standing(case.evidence, constants) for case in cases]
    delays = []
    early = gained = 0
    counts = {"overfit": 0, "sound": 0, "between": 0}
    rung = dict.fromkeys(counts, 0)
    for case, stands in zip(cases, alarms, strict=True):
        curve = case.curve
        kind = "overfit" if curve.overfits else "sound" if curve.sound else "between"
        delay = next((index for index, on in enumerate(stands[curve.best :]) if on), None)
        counts[kind] += 1
        rung[kind] += any(stands) if kind != "overfit" else delay is not None
        if kind == "overfit" and delay is not None:
            delays.append(delay)
        first = stands.index(True) if any(stands) else len(stands)
        if curve.drop is not None and first < curve.drop:
            early += 1
            gained += level(curve.acc[curve.drop :]) > level(curve.acc[: first + 1])
    return Figures(
        overfit=counts["overfit"],
        detected=rung["overfit"],
        sound=counts["sound"],
        false_alarms=rung["sound"],
        between=counts["between"],
        between_alarmed=rung["between"],
        delays=sorted(delays),
        early=early,
        early_gained=gained,
    )


def by_kind(cases: Sequence[Seen], constants: Constants) -> dict[str, Figures]:
    """The figures of each kind of variant."""
    kinds = dict.fromkeys(case.kind for case in cases)
    return {kind: figures([case for case in cases if case.kind == kind], constants) for kind in kinds}


def level(values: np.ndarray) -> float:
    """The highest median of four values in a row."""
    windows = np.lib.stride_tricks.sliding_window_view(values, min(4, len(values)))
    return float(np.median(windows, axis=1).max())


def added(parts: Sequence[Figures]) -> Figures:
    """Of several groups of curves together."""
    sums = {name: sum((getattr(part, name) for part in parts), type(getattr(parts[0], name))()) for name in vars(parts[0])}
    return Figures(**{**sums, "delays": sorted(sums["delays"])})


def merit(found: Figures) -> tuple[float, float]:
    """The criterion by which constants are chosen; higher is better."""
    return found.detected - found.false_alarms, -float(np.mean(found.delays)) if found.delays else 0.0


def fitted(tried: Mapping[str, Sequence[Figures]], families: Sequence[str]) -> Constants:
    """The constants with the highest merit over some families: ``tried`` holds each family's figures for each of the grid."""
    merits = [merit(added([tried[family][index] for family in families])) for index in range(len(GRID))]
    return GRID[merits.index(max(merits))]


def measure() -> Report:
    """Everything."""
    rng = np.random.default_rng(SEED)
    real: dict[str, dict[str, list[Seen]]] = {}  # family -> columns -> curves
    varied: dict[str, dict[str, list[Seen]]] = {}
    for name, members in FAMILIES.items():
        curves = [real_curve(member) for member in members]
        perturbed = [variant for curve in curves for variant in variants(curve, rng)]
        real[name] = {key: [seen(curve, *there) for curve in curves] for key, there in COLUMNS.items()}
        varied[name] = {key: [seen(curve, *there, kind) for kind, curve in perturbed] for key, there in COLUMNS.items()}
    # On a family, by constants: its curves and their variants under all columns.
    tried = {
        name: [added([figures([*real[name][key], *varied[name][key]], constants) for key in COLUMNS]) for constants in GRID]
        for name in FAMILIES
    }
    best = fitted(tried, list(FAMILIES))
    families = []
    for name, members in FAMILIES.items():
        constants = fitted(tried, [other for other in FAMILIES if other != name])
        families.append(
            Family(
                name=name,
                curves=list(members),
                constants=constants,
                real={key: figures(real[name][key], constants) for key in COLUMNS},
                variants={key: figures(varied[name][key], constants) for key in COLUMNS},
                kinds=by_kind(varied[name][FULL], constants),
            )
        )
    return Report(
        families=families,
        defaults_real={key: added([figures(real[name][key], CONSTANTS) for name in FAMILIES]) for key in COLUMNS},
        defaults_variants={key: added([figures(varied[name][key], CONSTANTS) for name in FAMILIES]) for key in COLUMNS},
        defaults_kinds=by_kind([case for name in FAMILIES for case in varied[name][FULL]], CONSTANTS),
        fitted=best,
        flat=[flat(images, best, rng) for images in IMAGES],
        calibration=calibration(prefixes(rng)),
    )


def flat(images: int, best: Constants, rng: np.random.Generator) -> Flat:
    """False alarms on flat curves."""
    curves = list(flat_curves(images, rng))
    cases = {key: [seen(curve, *there).evidence for curve in curves] for key, there in COLUMNS.items()}
    alarms = {key: [standing(evidence, CONSTANTS) for evidence in each] for key, each in cases.items()}
    return Flat(
        images=images,
        curves=len(curves),
        alarmed={key: sum(map(any, each)) for key, each in alarms.items()},
        standing={key: sum(stands[-1] for stands in each) for key, each in alarms.items()},
        alarmed_fitted={key: sum(any(standing(evidence, best)) for evidence in each) for key, each in cases.items()},
    )


# -- calibration -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefix:
    """A curve up to some epoch."""

    group: str  # family, or the size of a flat curve's test set
    flat: bool
    evidence: Evidence
    standing: bool
    true: bool


REMAINS = 0.02  # a gap that counts
STEPS = 25  # prefixes of a curve
EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


def prefixes(rng: np.random.Generator) -> list[Prefix]:
    """Those of the public curves, with and without noise, and of flat ones, each with every set of columns."""
    found = []
    for family, members in FAMILIES.items():
        for curve in map(real_curve, members):
            shown = [curve, *(noisy(curve, images, rng) for images in (300, 300, 1000, 1000, 3000))]
            found += [prefix for each in shown for there in COLUMNS.values() for prefix in cut(curve, each, there, family, False)]
    for images in IMAGES:
        for curve in itertools.islice(flat_curves(images, rng), 60):
            still = replace(curve, acc=np.maximum.accumulate(trend(curve.acc, 49)))
            found += [p for there in COLUMNS.values() for p in cut(still, curve, there, f"{images} images", True)]
    return found


def cut(clean: Curve, shown: Curve, there: tuple[bool, bool], group: str, flat: bool) -> Iterator[Prefix]:
    """Prefixes of a curve as it is shown to the detector."""
    case = seen(shown, *there)
    stands, levels = standing(case.evidence, CONSTANTS), trend(clean.acc)
    ends = levels.max() - levels[-5:].mean() > REMAINS
    for end in range(MIN_VALUES, len(levels), max(1, len(levels) // STEPS)):
        now = levels[: end + 1].max() - levels[max(0, end - 4) : end + 1].mean() > REMAINS
        yield Prefix(group, flat, case.evidence[end], stands[end], bool(ends if stands[end] else now))


def weights(found: Sequence[Prefix]) -> np.ndarray:
    """Two thirds for the families, one third for the flat curves, each shared alike by its groups."""
    groups = {prefix.group: prefix.flat for prefix in found}
    sizes = {group: sum(prefix.group == group for prefix in found) for group in groups}
    alike = {flat: sum(each == flat for each in groups.values()) for flat in (False, True)}
    return np.array([(1 / 3 if p.flat else 2 / 3) / alike[p.flat] / sizes[p.group] for p in found])


def calibration(found: Sequence[Prefix]) -> list[Calibrated]:
    """What was said and what came true, by how sure it was."""
    weight = weights(found)
    said = np.array([probability(prefix.evidence, prefix.standing) for prefix in found])
    true, stands = np.array([prefix.true for prefix in found]), np.array([prefix.standing for prefix in found])
    bins = []
    for standing_ in (False, True):
        for low, high in itertools.pairwise(EDGES):
            at = (stands == standing_) & (said >= low) & ((said < high) | (high == 1))
            if at.any():
                means = (float(np.average(values[at], weights=weight[at])) for values in (said, true))
                bins.append(Calibrated(standing_, int(at.sum()), *means))
    return bins


def fit(found: Sequence[Prefix]) -> str:
    """The two logistic functions, fitted: without an alarm in fall beyond luck and noise, with one in the first alone."""
    from sklearn.linear_model import LogisticRegression

    weight, lines = weights(found), []
    for stands in (False, True):
        own = [index for index, prefix in enumerate(found) if prefix.standing == stands]
        x = [[found[i].evidence.beyond, *([] if stands else [found[i].evidence.noise])] for i in own]
        w = weight[own] / weight[own].mean()
        model = LogisticRegression(C=100).fit(x, [found[i].true for i in own], w)
        lines.append(f"{'standing' if stands else 'none'}: {model.intercept_.round(2).tolist()} {model.coef_.round(2).tolist()}")
    return "\n".join(lines)


# -- the page ----------------------------------------------------------------------------------------------------------


def page(report: Report) -> str:
    """detector.md."""
    lines = [
        "# The detector on curves that it was not fitted to",
        "",
        "Made by `python -m ro_fast.benchmarks.detector`, whose docstring defines every term; all figures are in detector.json.",
        "",
        "## Each family, with constants fitted to the others",
        "",
        "With loss and train accuracy. Constants: points of score, values ahead, z with risen loss, z without loss, z else.",
        "",
        f"The package's are {numbers(CONSTANTS)}; those fitted to all families would be {numbers(report.fitted)}.",
        "",
        "| left out | constants | detected | false alarms | between, alarmed | delay | variants: detected | false alarms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in report.families:
        own, perturbed = family.real[FULL], family.variants[FULL]
        delays = ", ".join(map(str, own.delays)) or "–"
        cells = [family.name, numbers(family.constants), f"{own.detected} of {own.overfit}", f"{own.false_alarms} of {own.sound}"]
        cells += [f"{own.between_alarmed} of {own.between}", delays, share(perturbed.detected, perturbed.overfit)]
        lines.append("| " + " | ".join([*cells, share(perturbed.false_alarms, perturbed.sound)]) + " |")
    lines += ["", "## All families together", ""]
    head = "| columns | curves | detected | false alarms | delay, median (range) | between, alarmed | early | gained after |"
    lines += ["Left out, and for comparison with the package's constants, which were chosen on these curves:", ""]
    lines += [head, "|---|---|---|---|---|---|---|---|"]
    for columns in COLUMNS:
        left_out = added([family.real[columns] for family in report.families])
        perturbed = added([family.variants[columns] for family in report.families])
        lines.append(row(columns, "left out", left_out))
        lines.append(row(columns, "variants of those left out", perturbed))
        lines.append(row(columns, "chosen on", report.defaults_real[columns]))
        lines.append(row(columns, "variants of those chosen on", report.defaults_variants[columns]))
    lines += ["", "## Kinds of variants", "", "With loss and train accuracy.", "", head.replace("columns", "kind")]
    lines.append("|---|---|---|---|---|---|---|---|")
    for kind, chosen_on in report.defaults_kinds.items():
        lines.append(row(kind, "left out", added([family.kinds[kind] for family in report.families])))
        lines.append(row(kind, "chosen on", chosen_on))
    lines += ["", "## Simulated flat curves", ""]
    lines += ["Curves with an alarm; in brackets, those where it stands at the end.", ""]
    lines += ["| images | constants | " + " | ".join(COLUMNS) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for each in report.flat:
        rates = [f"{share(each.alarmed[key], each.curves)} ({each.standing[key]})" for key in COLUMNS]
        lines.append(f"| {each.images} | the package's | " + " | ".join(rates) + " |")
        rates = [share(each.alarmed_fitted[key], each.curves) for key in COLUMNS]
        lines.append(f"| {each.images} | fitted to all | " + " | ".join(rates) + " |")
    lines += ["", "## How sure it says it is", ""]
    lines += ["Weighted means over prefixes of curves; what is said is the probability of a gap above 2 points.", ""]
    lines += ["| alarm | prefixes | said, % | came true, % |", "|---|---|---|---|"]
    for point in report.calibration:
        alarm = "stands" if point.standing else "none"
        lines.append(f"| {alarm} | {point.prefixes} | {100 * point.said:.0f} | {100 * point.true:.0f} |")
    return "\n".join(lines) + "\n"


def numbers(constants: Constants) -> str:
    """Constants in their order."""
    return ", ".join(f"{value:g}" for value in vars(constants).values())


def row(columns: str, curves: str, found: Figures) -> str:
    """A line of the second table."""
    delays = f"{np.median(found.delays):g} ({found.delays[0]} to {found.delays[-1]})" if found.delays else "–"
    cells = [columns, curves, share(found.detected, found.overfit), share(found.false_alarms, found.sound), delays]
    cells += [share(found.between_alarmed, found.between), str(found.early), str(found.early_gained)]
    return "| " + " | ".join(cells) + " |"


def share(part: int, whole: int) -> str:
    """As counts, with a percentage where there are enough."""
    if whole == 0:
        return "–"
    return f"{part} of {whole}" if whole < 20 else f"{100 * part / whole:.0f} % of {whole}"


def read_report(path: Path) -> Report:
    """A report from its file."""
    return parse(Report, json.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    """Measures, and writes detector.json and detector.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the probabilities anew, and print them")
    if parser.parse_args().fit:
        print(fit(prefixes(np.random.default_rng(SEED))))
        return
    report = measure()
    FILE.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    FILE.with_suffix(".md").write_text(page(report), encoding="utf-8")
    print(page(report))


if __name__ == "__main__":
    main()
