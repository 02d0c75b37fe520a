from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.pages import english, outside
from helpers.suite_folder import SUITE, make_run

from ro_fast.config import ArmConfig
from ro_fast.errors import InputError
from ro_fast.report import build_report


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
    assert outside(page) == [] and len(page) < 350_000
    assert "trained 456 epochs" in page and "600" in page
    assert "Yu et al. 2022 (arXiv 2206.08675)" in page[page.index("Literature on the same question") :]


def test_the_page_in_japanese_leaves_only_names_in_english(finished):
    english_page = (finished / "report.html").read_text(encoding="utf-8")
    page = build_report(finished, "ja").read_text(encoding="utf-8")
    assert [line for line in english(page) if "arXiv" not in line] == []  # references keep the names they are cited by
    assert "原因は損失の大きい画像で" in page and "差が広がる" in page and "学習率が下がる" in page
    assert build_report(finished).read_text(encoding="utf-8") == english_page
    with pytest.raises(InputError, match=r"report\.language=fr is unknown; available: en, ja"):
        build_report(finished, "fr")


def test_what_the_results_say_otherwise_than_today_stays_in_english(tmp_path):
    path = make_run(tmp_path, arms=SUITE.arms[:1]) / "results.json"
    results = json.loads(path.read_text())
    results["finding"]["sentences"] = ["It was told in other words."]
    del results["digest"]
    path.write_text(json.dumps(results))
    assert english(build_report(tmp_path, "ja").read_text(encoding="utf-8"))[0] == "It was told in other words."


def test_charts_are_in_the_page_and_on_disk_as_png(finished):
    names = {path.name for path in (finished / "figures").iterdir()}
    assert names == {"curves.png", "gap.png", "small_loss_share.png"}
    assert (finished / "report.html").read_text(encoding="utf-8").count("<svg") == 2 * len(names)
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
    assert "<script>alert" not in page and "<i>$x" not in page and "b&lt;i&gt;$x" in page
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
