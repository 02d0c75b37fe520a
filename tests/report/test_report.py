from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from ro_fast.errors import InputError
from ro_fast.findings.outcomes import summarise_arms, summarise_run
from ro_fast.findings.study_files import VERSION
from ro_fast.findings.verdict import compare_arms, write_finding
from ro_fast.report import build_report

SUITE = yaml.safe_load((Path(__file__).parents[2] / "configs/suite/factors.yaml").read_text(encoding="utf-8"))
EPOCHS, FORK = 40, 12
FALL = {
    "baseline": 0.15,
    "data_and_perturbation": 0.3,
    "perturbation": 0.34,
    "large_loss_removal": 0.01,
    "attack_strength": 0.03,
}


def curve(arm: str, seed: int) -> list[dict]:
    """A run that learns, then overfits by ``FALL`` after the first learning-rate drop; alike before the fork."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, len(arm)])
    lines = []
    for epoch in range(EPOCHS):
        noise = 0.02 * (shared.normal(size=3) if epoch < FORK else own.normal(size=3))
        fall = FALL.get(arm, 0.1) * min(max(epoch - FORK, 0) / 15, 1.0)
        learned = 0.9 * (1 - np.exp(-(epoch + 1) / 3))
        lines.append(
            {
                "epoch": epoch,
                "lr": 0.1 * 0.1 ** ((epoch >= 20) + (epoch >= 30)),
                "train_robust_loss": 1.0,
                "test_robust_loss": 1.0,
                "train_robust_acc": float(min(0.7 * learned + 0.01 * max(epoch - FORK, 0) + noise[0], 1.0)),
                "val_robust_acc": float(learned - fall + noise[1]),
                "test_robust_acc": float(learned - fall + noise[2]),
                "test_acc": float(0.97 - fall / 3),
                "small_loss_share": float(0.3 + 0.4 * learned + fall / 3 + noise[0]),
                "seconds": 0.3,
            }
        )
    return lines


def make_run(folder: Path, arms: list[dict] = SUITE["arms"], seeds: int = 3) -> Path:
    records = []
    for arm in arms:
        runs = []
        for seed in range(seeds):
            lines = curve(arm["name"], seed)
            run = folder / "runs" / arm["name"] / f"seed{seed}"
            run.mkdir(parents=True)
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            runs.append({"seed": seed, **summarise_run(lines), "seconds": 12.0, "gflop": 3.0})
        records.append({**{key: arm[key] for key in arm if key != "set"}, "seeds": runs})
    records = [{**arm, **summary} for arm, summary in zip(records, summarise_arms(records), strict=True)]
    results = {
        "version": VERSION,
        "suite": "factors",
        "question": SUITE["question"],
        "data": "digits_noisy",
        "wall_seconds": 93.1,
        "fork_epoch": FORK,
        "epochs_trained": 456,
        "epochs_without_sharing": 600,
        "arms": records,
        "comparisons": compare_arms(records),
        "small_loss": {"value": 1.5, "unit": "loss"},
        "rules": SUITE["rules"],
        "environment": {"torch": "2.10", "device": "cpu", "threads": 1, "packages": {"numpy": "2.0"}},
    }
    results["finding"] = write_finding(results, SUITE["rules"])
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
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
    assert "456 epochs were trained" in page and "600" in page


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


def test_names_are_escaped_and_one_seed_is_enough(tmp_path):
    arms = [{"name": "baseline"}, {"name": "b<i>$x", "factor": "<script>alert(1)</script>", "role": "factor"}]
    page = build_report(make_run(tmp_path, arms=arms, seeds=1)).read_text(encoding="utf-8")
    assert "<script" not in page and "b&lt;i&gt;$x" in page
    assert "one seed has no interval: run seeds=3" in page


def test_a_suite_without_rules_still_reports(tmp_path):
    make_run(tmp_path, arms=SUITE["arms"][:1])
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: results[key] for key in results if key not in ("rules", "finding", "small_loss", "environment")})
    )
    assert "without a verdict" in build_report(tmp_path).read_text(encoding="utf-8")


def break_results(run: Path) -> None:
    path = run / "results.json"
    path.write_text(path.read_text()[:200])


def drop_gap(run: Path) -> None:
    path = run / "results.json"
    results = json.loads(path.read_text())
    del results["arms"][0]["ro_gap"]
    path.write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "results.json").unlink(), "holds no results.json"),
        (break_results, "no complete JSON"),
        (lambda run: (run / "results.json").write_text("[]"), "not a suite's results.json"),
        (drop_gap, "arm baseline lacks ro_gap"),
        (lambda run: (run / "runs/baseline/seed1/metrics.jsonl").unlink(), r"seed1.metrics\.jsonl is missing"),
        (
            lambda run: (run / "runs/baseline/seed1/metrics.jsonl").write_text('{"epoch": 0'),
            "line 1 is no epoch's metrics",
        ),
        (lambda run: (run / "runs/baseline/seed1/metrics.jsonl").write_text(""), "holds no epoch"),
        (lambda run: (run / "runs/baseline/seed1/metrics.jsonl").write_text('{"epoch": 0, "lr": "much"}'), "lr is str; a number"),
        (lambda run: (run / "runs/baseline/seed1/metrics.jsonl").write_text('{"epoch": 0}'), "line 1 .*it lacks lr, "),
    ],
)
def test_a_broken_folder_is_told_in_one_line(finished, tmp_path, damage, words):
    run = Path(shutil.copytree(finished, tmp_path / "copy"))
    damage(run)
    with pytest.raises(InputError, match=words) as raised:
        build_report(run)
    assert "\n" not in str(raised.value)
