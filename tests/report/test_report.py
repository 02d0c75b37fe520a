from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.studies import arms_of, epoch, factors, run

from ro_fast.config import ArmConfig, SmallLossConfig
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.findings.outcomes import summarise_run
from ro_fast.findings.study import VERSION, Results
from ro_fast.findings.verdict import compare_arms, write_finding
from ro_fast.report import build_report
from ro_fast.storage import records
from ro_fast.storage.epochs import Epoch, written

SUITE = factors()
EPOCHS, FORK = 40, 12
FALL = {
    "baseline": 0.15,
    "data_and_perturbation": 0.3,
    "perturbation": 0.34,
    "large_loss_removal": 0.01,
    "attack_strength": 0.03,
}


def curve(arm: str, seed: int) -> list[Epoch]:
    """A run that learns, then overfits by ``FALL`` after the first learning-rate drop; identical before the fork."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, len(arm)])
    epochs = []
    for number in range(EPOCHS):
        noise = 0.02 * (shared.normal(size=3) if number < FORK else own.normal(size=3))
        fall = FALL.get(arm, 0.1) * min(max(number - FORK, 0) / 15, 1.0)
        learned = 0.9 * (1 - np.exp(-(number + 1) / 3))
        epochs.append(
            epoch(
                number,
                lr=0.1 * 0.1 ** ((number >= 20) + (number >= 30)),
                train_robust_acc=float(min(0.7 * learned + 0.01 * max(number - FORK, 0) + noise[0], 1.0)),
                val_robust_acc=float(learned - fall + noise[1]),
                test_robust_acc=float(learned - fall + noise[2]),
                test_acc=float(0.97 - fall / 3),
                small_loss_share=float(0.3 + 0.4 * learned + fall / 3 + noise[0]),
            )
        )
    return epochs


def make_run(folder: Path, arms: list[ArmConfig] = SUITE.arms, seeds: int = 3) -> Path:
    runs = {}
    for arm in arms:
        runs[arm.name] = []
        for seed in range(seeds):
            epochs = curve(arm.name, seed)
            place = folder / "runs" / arm.name / f"seed{seed}"
            place.mkdir(parents=True)
            (place / "metrics.jsonl").write_text(written(epochs), encoding="utf-8")
            runs[arm.name].append(run(seed, **vars(summarise_run(epochs)), seconds=12.0, gflop=3.0))
    made = arms_of(runs, arms)
    results = Results(
        version=VERSION,
        suite="factors",
        question=SUITE.question,
        data="digits_noisy",
        wall_seconds=93.1,
        fork_epoch=FORK,
        epochs_trained=456,
        epochs_without_sharing=600,
        arms=made,
        comparisons=compare_arms(made),
        small_loss=SmallLossConfig(),
        rules=SUITE.rules,
        literature=SUITE.literature,
        environment=Environment(torch="2.10", device="cpu", threads=1),
        finding=write_finding("digits_noisy", made, SUITE.rules),
    )
    records.write(folder / "results.json", results)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("suite"))
    build_report(run)
    return run


def test_report_is_one_offline_page_that_opens_with_the_finding(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    found, sure = json.loads((finished / "results.json").read_text())["finding"]["sentences"]
    body = page[page.index("<body>") :]
    assert body.index(found) < body.index(sure.replace("'", "&#39;")) < body.index("<table>")
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,30})', page)
    assert len(sources) == 6 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page and "http" not in page
    assert "trained 456 epochs" in page and "600" in page
    assert "Yu et al. 2022 (arXiv 2206.08675)" in page[page.index("Literature on the same question") :]


def test_figures_are_on_disk_as_png(finished):
    names = {path.name for path in (finished / "figures").iterdir()}
    assert {"curves.png", "gap.png", "small_loss_share.png"} <= names
    assert all((finished / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_table_shows_means_with_intervals(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    for arm in json.loads((finished / "results.json").read_text())["arms"]:
        gap = arm["ro_gap"]
        assert f"{100 * gap['mean']:.1f} <small>{100 * gap['ci95'][0]:.1f} to {100 * gap['ci95'][1]:.1f}</small>" in page


def test_same_folder_gives_the_same_bytes(finished):
    before = (finished / "report.html").read_bytes()
    assert build_report(finished).read_bytes() == before


def test_a_line_that_is_missing_is_noticed(tmp_path):
    make_run(tmp_path, arms=SUITE.arms[:1], seeds=1)
    file = tmp_path / "runs" / "baseline" / "seed0" / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"metrics.jsonl holds other epochs than results.json was made from: run the same"):
        build_report(tmp_path)


def test_names_are_escaped_and_one_seed_is_enough(tmp_path):
    arms = [ArmConfig("baseline"), ArmConfig("b<i>$x", factor="<script>alert(1)</script>")]
    page = build_report(make_run(tmp_path, arms=arms, seeds=1)).read_text(encoding="utf-8")
    assert "<script" not in page and "b&lt;i&gt;$x" in page
    assert "one seed has no interval: run seeds=3" in page


def test_a_suite_without_rules_still_reports(tmp_path):
    make_run(tmp_path, arms=SUITE.arms[:1])
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    results["finding"] = {"sentences": ["Its numbers come without a verdict."]}
    left_out = ("rules", "small_loss", "environment", "digest")
    path.write_text(json.dumps({key: results[key] for key in results if key not in left_out}))
    assert "without a verdict" in build_report(tmp_path).read_text(encoding="utf-8")


METRICS = "runs/baseline/seed1/metrics.jsonl"


def break_results(run: Path) -> None:
    path = run / "results.json"
    path.write_text(path.read_text()[:200])


def drop_gap(run: Path) -> None:
    path = run / "results.json"
    results = json.loads(path.read_text())
    del results["arms"][0]["ro_gap"], results["digest"]
    path.write_text(json.dumps(results))


def name_a_figure(run: Path) -> None:
    path = run / "results.json"
    results = json.loads(path.read_text())
    results["figures"] = ["nan"]
    del results["digest"]
    path.write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (name_a_figure, r"results\.json names 'nan', which does not exist"),
        (lambda run: (run / "results.json").unlink(), "holds no results.json"),
        (break_results, "not complete JSON"),
        (lambda run: (run / "results.json").write_text("[]"), "not a suite's results.json"),
        (drop_gap, r"arms\[0\]: object missing required field `ro_gap`"),
        (lambda run: (run / METRICS).unlink(), r"seed1.metrics\.jsonl is missing"),
        (lambda run: (run / METRICS).write_text('{"epoch": 0'), "line 1 is not an epoch's metrics"),
        (lambda run: (run / METRICS).write_text(""), "contains no epoch"),
        (lambda run: (run / METRICS).write_text('{"epoch": 0, "lr": "much"}'), r"line 1 .*\(lr: expected `float`, got `str`\)"),
        (lambda run: (run / METRICS).write_text('{"epoch": 0}'), "line 1 .*missing required field `lr`"),
    ],
)
def test_a_broken_folder_is_told_in_one_line(finished, tmp_path, damage, words):
    run = Path(shutil.copytree(finished, tmp_path / "copy"))
    damage(run)
    with pytest.raises(InputError, match=words) as raised:
        build_report(run)
    assert "\n" not in str(raised.value)
