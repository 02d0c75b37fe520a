"""``python -m ro_fast.benchmarks.risk``: how often a fall of robust accuracy comes true that is given a probability beforehand.

Every stored suite is asked about every run of every arm, as if that run were still to come: the arm's other seeds say how
probable it is that the run falls by more than each of :data:`LIMITS` (:func:`ro_fast.findings.fall.probability_of_fall`), with
the other arms' seeds but that one to lend their spread. Suites of several sizes are also asked about their largest one from the
others alone, half as many images and fewer. What is said is compared with what came: by tenths of the probability, and by the
Brier score, the mean of (probability − 0 or 1)², beside that of always saying how often it happens in all.

Runs of one suite share its data, and some are stored in several suites, so they are not independent: this judges the formula, not
all data there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ro_fast.findings import study
from ro_fast.findings.fall import probability_of_fall
from ro_fast.findings.outcomes import Arm, Seed, summarise_arms
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.study import read_results
from ro_fast.pages.figure_style import PALETTE, new_figure, save, style
from ro_fast.storage.records import write

from .run import RESULTS

FILE = RESULTS / "cpu" / "risk.json"
LIMITS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
SIZES = {f"share_{share}": share for share in ("0.125", "0.25", "0.5", "1")}
HERE, THERE = "another seed", "twice the images"


@dataclass(frozen=True)
class Tenth:
    """The forecasts whose probability lies in one tenth of 0 to 1."""

    count: int
    said: float  # mean probability
    came: float  # share that came true


@dataclass(frozen=True)
class Calibration:
    """All forecasts of one kind."""

    kind: str
    suites: list[str]
    runs: int
    forecasts: int
    brier: float
    of_base_rate: float
    tenths: list[Tenth]


@dataclass(frozen=True)
class Measured:
    """The contents of risk.json."""

    kinds: list[Calibration]


@dataclass(frozen=True)
class _Forecast:
    kind: str
    suite: str
    run: tuple[str, int]
    limit: float
    said: float
    came: bool


def forecasts(name: str, arms: Sequence[Arm]) -> Iterator[_Forecast]:
    """What a suite's other runs say of each of its runs, and what came."""
    for arm in arms:
        for seed in arm.seeds if len(arm.seeds) > 2 else []:
            others = _without(arms, seed)
            renamed = [_called(BASELINE, one) if one.name == arm.name else _called(f"arm {one.name}", one) for one in others]
            for limit in LIMITS:
                if (fall := probability_of_fall(renamed, limit, {BASELINE: 1}, 1)) is not None:
                    yield _Forecast(HERE, name, (arm.name, seed.seed), limit, fall.here, seed.ro_gap > limit)
    by_name = {arm.name: arm for arm in arms}
    if set(SIZES) <= set(by_name):
        images = {name: round(1000 * float(share)) for name, share in SIZES.items()}
        largest = max(images, key=images.__getitem__)
        half = sorted(images, key=images.__getitem__)[-2]
        for seed in by_name[largest].seeds:
            smaller = [arm for arm in _without(arms, seed) if arm.name in images and arm.name != largest]
            renamed = [_called(BASELINE, arm) if arm.name == half else arm for arm in smaller]
            sizes = {BASELINE if arm.name == half else arm.name: images[arm.name] for arm in smaller}
            for limit in LIMITS:
                fall = probability_of_fall(renamed, limit, sizes, images[largest])
                if fall is not None and fall.there is not None:
                    yield _Forecast(THERE, name, (largest, seed.seed), limit, fall.there, seed.ro_gap > limit)


def _without(arms: Sequence[Arm], seed: Seed) -> list[Arm]:
    kept = {arm.name: [other for other in arm.seeds if other.seed != seed.seed] for arm in arms}
    return [_of(arm.name, kept[arm.name]) for arm in arms if kept[arm.name]]


def _called(name: str, arm: Arm) -> Arm:
    return _of(name, arm.seeds)


def _of(name: str, seeds: Sequence[Seed]) -> Arm:
    from ro_fast.config import ArmConfig

    return summarise_arms([ArmConfig(name)], {name: seeds})[0]


def calibration(kind: str, found: Sequence[_Forecast]) -> Calibration:
    """The comparison of all forecasts of one kind with what came."""
    rate = sum(one.came for one in found) / len(found)
    tenths = []
    for tenth in range(10):
        own = [one for one in found if min(9, int(10 * one.said)) == tenth]
        said, came = (sum(values) / max(1, len(own)) for values in ([o.said for o in own], [o.came for o in own]))
        tenths.append(Tenth(len(own), round(said, 3), round(came, 3)))
    return Calibration(
        kind=kind,
        suites=sorted({one.suite for one in found}),
        runs=len({(one.suite, one.run) for one in found}),
        forecasts=len(found),
        brier=round(sum((one.said - one.came) ** 2 for one in found) / len(found), 4),
        of_base_rate=round(rate * (1 - rate), 4),
        tenths=tenths,
    )


def measured() -> Measured:
    """Of all stored suites."""
    found = [
        forecast
        for path in sorted((RESULTS / "cpu").glob(f"*/{study.RESULTS}"))
        for forecast in forecasts(path.parent.name, read_results(path.parent).arms)
    ]
    kinds = {kind: [one for one in found if one.kind == kind] for kind in (HERE, THERE)}
    return Measured([calibration(kind, own) for kind, own in kinds.items() if own])


def said(found: Measured) -> str:
    """The result in a sentence for each kind."""
    return " ".join(
        f"Of {one.runs} runs of {len(one.suites)} suites, asked from {one.kind if one.kind == HERE else 'half as many images'}: "
        f"Brier score {one.brier:.3f}, where the base rate alone has {one.of_base_rate:.3f}."
        for one in found.kinds
    )


def page(found: Measured) -> str:
    """The tables in Markdown."""
    lines = ["# How often a predicted fall comes true", "", "Made by `python -m ro_fast.benchmarks.risk`.", "", said(found), ""]
    lines += ["![What was said against what came, by tenths of the probability](risk.png)"]
    for one in found.kinds:
        lines += ["", f"## {one.kind.capitalize()}", "", f"{one.forecasts} forecasts; suites: {', '.join(one.suites)}.", ""]
        lines += ["| probability | forecasts | said on average, % | came true, % |", "|---|---|---|---|"]
        for number, tenth in enumerate(one.tenths):
            cells = [f"{100 * tenth.said:.0f}", f"{100 * tenth.came:.0f}"] if tenth.count else ["", ""]
            lines.append(f"| {10 * number} to {10 * number + 10} % | {tenth.count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: Measured, path: Path) -> None:
    """The reliability diagram: a point for each tenth with ten forecasts or more, its area by their number."""
    with style():
        figure = new_figure(4.6, 4.2)
        ax = figure.subplots()
        ax.plot([0, 100], [0, 100], color="#222222", lw=1)
        for one, colour, marker in zip(found.kinds, PALETTE, "os", strict=False):
            shown = [tenth for tenth in one.tenths if tenth.count >= 10]
            area = [10 + 150 * tenth.count / one.forecasts for tenth in shown]
            x, y = [100 * tenth.said for tenth in shown], [100 * tenth.came for tenth in shown]
            ax.scatter(x, y, area, color=colour, marker=marker, alpha=0.8, label=one.kind)
        ax.set_xlabel("said, %")
        ax.set_ylabel("came true, %")
        ax.legend(frameon=False)
        save(figure, path)


def main() -> None:
    """Writes risk.json, risk.md and risk.png below benchmarks/results/cpu."""
    found = measured()
    write(FILE, found)
    FILE.with_suffix(".md").write_text(page(found), encoding="utf-8")
    draw(found, FILE.with_suffix(".png"))
    print(said(found))


if __name__ == "__main__":
    main()
