"""Suites: shared prefixes change nothing, are shared by exactly what they influence, and survive kills and races."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pages import outside
from helpers.suites import begun, line, small

from ro_fast.cli import compose
from ro_fast.config import ArmConfig, ClaimConfig, ConditionConfig, FinalConfig, SuiteConfig, TrainConfig, changed
from ro_fast.data import load_data
from ro_fast.errors import InputError, WorkError
from ro_fast.findings.study import read_results
from ro_fast.findings.verdict import LOOKS, more_seeds
from ro_fast.report import build_report
from ro_fast.storage.run_folder import lock_of
from ro_fast.storage.test_images import read_robust_images
from ro_fast.suite import run as suite_run
from ro_fast.suite.plan import plan
from ro_fast.suite.run import ablate, epochs_to_train
from ro_fast.training.trainer import train

TIMES = ("seconds", "train_seconds", "peak_mb", "digest")  # the digest is of the others too


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def runs(folder: Path) -> dict[str, list[dict]]:
    return {str(path.parent.relative_to(folder)): metrics(path.parent) for path in sorted(folder.rglob("metrics.jsonl"))}


def test_an_arm_alone_equals_the_arm_in_a_suite(tmp_path: Path) -> None:
    config = small(tmp_path)
    ablate(config)
    branches = plan(config)
    fork = branches[0].fork
    for branch in branches[:3]:
        alone = changed(branch.config, {"out": str(tmp_path / "alone" / branch.arm.name)})
        train(alone)
        assert metrics(Path(alone.out)) == metrics(Path(branch.config.out)), branch.arm.name
    curves = runs(tmp_path / "suite" / "runs")
    assert curves["baseline/seed0"][:fork] == curves["perturbation/seed0"][:fork]
    assert curves["baseline/seed0"][fork:] != curves["perturbation/seed0"][fork:]


def test_parts_share_arms_and_prefixes(tmp_path: Path) -> None:
    """Two questions in one run: the baseline is trained once, an arm may fork elsewhere, and each part reports its own arms."""
    removal = {"method": {"name": "large_loss_removal"}}
    when = SuiteConfig(
        "when",
        "When?",
        0.5,
        arms=[ArmConfig("baseline", {}), ArmConfig("early", removal, role="level", x=0.25, fork=0.25)],
        x_label="start",
        claims=[
            ClaimConfig(
                "sooner",
                "Sooner is better",
                all=[ConditionConfig("difference", metric="ro_gap", a="early", b="baseline", expect="lower")],
            )
        ],
    )
    config = small(tmp_path)
    what = config.suite
    config.suite = SuiteConfig("both", "What and when?", 0.5, {"trainer.lr": 0.05}, parts={"what": what, "when": when})
    results = ablate(config)
    assert [arm.name for arm in results.arms] == ["baseline", "perturbation", "attack_strength", "early"]
    assert [arm.fork_epoch for arm in results.arms] == [2, 2, 2, 1]
    # A prefix of 2 epochs and one of 1, three arms that continue for 2 and one for 3, two seeds.
    assert results.epochs_trained == 2 * (2 + 1 + 3 * 2 + 3) and results.epochs_without_sharing == 2 * 4 * 4
    told = {part.suite: part for part in results.parts}
    assert [arm.name for arm in told["when"].arms] == ["baseline", "early"] and told["when"].x_label == "start"
    assert [claim.name for claim in told["when"].claims] == ["sooner"] == [claim.name for claim in results.claims]
    assert all(len(part.finding.sentences) == 2 for part in results.parts)
    alone = small(tmp_path, "alone")
    alone.suite.set = {"trainer.lr": 0.05}
    ablate(alone)
    for run in runs(tmp_path / "alone"):
        assert runs(tmp_path / "alone")[run] == runs(tmp_path / "suite")[run], run


def test_one_name_means_one_arm(tmp_path: Path) -> None:
    config = small(tmp_path)
    other = SuiteConfig("other", "?", 0.5, arms=[ArmConfig("perturbation", {"trainer.lr": 0.2})])
    config.suite = SuiteConfig("both", "?", 0.5, parts={"tiny": config.suite, "other": other})
    with pytest.raises(InputError, match=r"suite 'other', arm 'perturbation'.*it needs another name"):
        plan(config)


def test_results_and_report(tmp_path: Path) -> None:
    heard: list = []
    total, done = epochs_to_train(small(tmp_path))
    results = ablate(small(tmp_path), heard.append)
    assert (total, done) == (len(heard), 0) == (results.epochs_trained, 0) == (2 * 2 + 3 * 2 * 2, 0)
    assert results.epochs_without_sharing == 24 and results.fork_epoch == 2
    assert read_results(tmp_path / "suite") == results
    assert [arm.name for arm in results.arms] == ["baseline", "perturbation", "attack_strength"]
    for arm in results.arms:
        assert [seed.seed for seed in arm.seeds] == [0, 1]
        for seed in arm.seeds:
            assert seed.ro_gap == pytest.approx(seed.best_robust_acc - seed.last_robust_acc)
            assert seed.gflop > 0
        assert arm.ro_gap.ci95[0] <= arm.ro_gap.mean <= arm.ro_gap.ci95[1]
    assert len(results.finding.sentences) == 2
    page = build_report(tmp_path / "suite").read_text(encoding="utf-8")
    assert "<svg" in page and outside(page) == []  # one file, readable offline


def test_seeds_are_added_until_the_rules_settle_it(tmp_path: Path) -> None:
    """Four epochs on 200 digits settle nothing; a limit that no fall reaches settles it at once."""
    heard: list = []
    added: list = []
    config = small(tmp_path, seeds="auto")
    total, _ = epochs_to_train(config)
    results = ablate(config, heard.append, lambda *epochs: added.append(epochs))
    seeds = len(results.arms[0].seeds)
    assert seeds in LOOKS and len(heard) == total + sum(more for more, _ in added) == results.epochs_trained
    assert len(added) == LOOKS.index(seeds) and (more_seeds(results.arms, results.finding) is None or seeds == LOOKS[-1])
    runs_before, again = runs(tmp_path / "suite"), []
    assert ablate(config, again.append).finding == results.finding
    assert again == [] and runs(tmp_path / "suite") == runs_before
    config.suite.rules = dataclasses.replace(config.suite.rules, min_gap=1.0)
    settled = ablate(config)
    assert len(settled.arms[0].seeds) == 3 and settled.finding.code in ("no overfitting", "overfits in loss", "still rising")
    config.suite.rules = None
    with pytest.raises(InputError, match="seeds=auto needs a suite with rules"):
        ablate(config)


def test_test_images_of_every_run_are_kept(tmp_path: Path) -> None:
    results = ablate(small(tmp_path))
    for run in (tmp_path / "suite" / "runs").glob("*/*"):
        robust = read_robust_images(run / "test_images.npz")
        assert [line["test_robust_acc"] for line in metrics(run)] == pytest.approx(robust.mean(1).tolist())
    for arm in results.arms:
        low, high = arm.ro_gap_new_images
        assert low <= arm.ro_gap.ci95[0] and arm.ro_gap.ci95[1] <= high
        assert all(len(seed.class_robust_acc) == 10 and seed.worst_class_robust_acc <= seed.last_robust_acc for seed in arm.seeds)
    assert all(c.ci95_new_images for c in results.comparisons)
    assert "By class, baseline" in build_report(tmp_path / "suite").read_text(encoding="utf-8")


def test_a_second_suite_reuses_the_prefix_and_only_then(tmp_path: Path) -> None:
    ablate(small(tmp_path))
    prefixes = sorted((tmp_path / "prefixes").glob("*/last.pt"))
    stamps = [path.stat().st_mtime_ns for path in prefixes]
    ablate(small(tmp_path, "again"))
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "prefixes").glob("*/last.pt"))] == stamps
    assert runs(tmp_path / "suite") == runs(tmp_path / "again")
    names = {branch.prefix.out for branch in plan(small(tmp_path))}
    for change in (
        {"trainer__lr": 0.05}, {"trainer__epochs": 6}, {"data__seed": 1}, {"attack__steps": 3}, {"model__width": 9}, {"seed": 5},
        {"suite__fork": 0.25}, {"precision": "bf16"}, {"small_loss__value": 1.0}, {"data__label_noise": 0.1}, {"threads": 2},
    ):  # fmt: skip
        assert names.isdisjoint(branch.prefix.out for branch in plan(small(tmp_path, **change))), change


def test_side_by_side_gives_the_digits_of_one_by_one(tmp_path: Path) -> None:
    """From a script as people write them, without ``if __name__ == "__main__"``."""
    script = tmp_path / "script.py"
    script.write_text(f"heard = []\n{_COMMAND.replace(')))', ')), heard.append)')}\nassert len(heard) == 16")
    ablate(small(tmp_path / "one"))
    command = [sys.executable, str(script), str(tmp_path / "two"), str(Path(__file__).parents[1]), "{'jobs': 2}"]
    subprocess.run(command, check=True, timeout=120)
    assert runs(tmp_path / "one" / "suite") == runs(tmp_path / "two" / "suite") != {}


_COMMAND = (
    "import sys; sys.path.insert(0, sys.argv[2]); from helpers.suites import *; from ro_fast.suite.run import ablate; "
    "ablate(small(Path(sys.argv[1]), **eval(sys.argv[3])))"
)


def start(folder: Path, changes: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", _COMMAND, str(folder), str(Path(__file__).parents[1]), changes])


def test_processes_that_race_for_a_prefix(tmp_path: Path) -> None:
    racing = [start(tmp_path, f"{{'out': {str(tmp_path / name)!r}}}") for name in ("a", "b")]
    assert [process.wait(timeout=120) for process in racing] == [0, 0]
    assert runs(tmp_path / "a") == runs(tmp_path / "b") != {}
    assert len(list((tmp_path / "prefixes").glob("*/last.pt"))) == 2


def worker_at(folder: Path) -> int:
    """The process that holds a run's folder."""
    owner = lock_of(folder / ".lock").owner
    assert owner is not None, "no process works there"
    return owner.pid


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_suite_outlives_its_workers_interrupts_and_kills(tmp_path: Path) -> None:
    killed = begun(tmp_path / "killed", "pure", "jobs=2")
    for worker in Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split():
        os.kill(int(worker), signal.SIGINT)  # which is for the suite alone to answer
    os.kill(worker_at(tmp_path / "killed" / "runs" / "pure" / "seed0"), signal.SIGKILL)
    told = killed.communicate(timeout=120)[1]
    assert killed.returncode == 1 and "Traceback" not in told
    assert "pure, seed 0: its process was ended by SIGKILL" in told.splitlines()[-1]
    assert len(metrics(tmp_path / "killed" / "runs" / "baseline" / "seed0")) == 20  # the other one went on

    interrupted = begun(tmp_path / "killed", "pure", "jobs=2")
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does
    told = interrupted.communicate(timeout=120)[1]
    assert interrupted.returncode == 130 and "Traceback" not in told and "interrupted; the state is saved" in told

    killed = begun(tmp_path / "killed", "pure", "jobs=2")
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "results.json").exists()
    for folder in ("killed", "whole"):
        ablate(compose("ablate", [*line(tmp_path / folder), "jobs=1"]))
    assert runs(tmp_path / "killed") == runs(tmp_path / "whole") != {}


def test_an_arm_that_fails_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ablate(small(tmp_path, "whole"))
    work = suite_run.trainer.train

    def diverges(config: TrainConfig, *rest: object) -> list:
        if "perturbation" in config.out and config.seed == 0:
            raise WorkError("the loss is not finite")
        return work(config, *rest)

    monkeypatch.setattr(suite_run.trainer, "train", diverges)
    with pytest.raises(WorkError, match=r"^perturbation, seed 0: the loss is not finite\. All that needs none of these is done"):
        ablate(small(tmp_path))
    missing = set(runs(tmp_path / "whole")) - set(runs(tmp_path / "suite"))
    assert missing == {"runs/perturbation/seed0"}
    monkeypatch.undo()
    ablate(small(tmp_path))
    assert runs(tmp_path / "suite") == runs(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": [1, 1]}, "different"),
        ({"jobs": 0}, "jobs = 0"),
        ({"suite__fork": 4}, "before trainer.epochs"),
        ({"suite__arms": []}, "no arms"),
        ({"suite__arms": [ArmConfig("typo", {"atack.eps": 1})]}, "atack.eps"),
        ({"suite__arms": [ArmConfig("wide", {"attack.eps": 8})]}, "8/255"),
    ],
    ids=str,
)
def test_bad_suites_are_told_before_anything_is_trained(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ablate(small(tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("data", "size"), [("digits_noisy", 1000), ("tops", 400)])
@pytest.mark.parametrize(
    ("suite", "arm", "share"), [("paper", "share_0.5", 0.5), ("mitigations", "half_the_data", 0.5), ("bias", "fewer", 0.8)]
)
def test_sizes_of_arms_are_shares_of_the_data(suite: str, arm: str, share: float, data: str, size: int) -> None:
    branches = plan(compose("ablate", [f"suite={suite}", f"data={data}", "seeds=1"]))
    sizes = {branch.arm.name: len(load_data(branch.config.data).x_train) for branch in branches if "data" in str(branch.arm.set)}
    assert max(sizes.values()) <= size and sizes[arm] == share * size


def test_every_suite_of_the_paper_runs(tmp_path: Path) -> None:
    """All questions in one run, on few digits: each claim gets a verdict, and what arms share is trained once."""
    command = ["suite=paper", "trainer.epochs=4", "seeds=2", "data.train_size=100", "data.test_size=50", "data.val_size=20"]
    command += ["attack.steps=1", "model.width=4", "features.size=20", "trainer.batch_size=50", "jobs=1", "threads=1"]
    config = compose("ablate", [*command, f"out={tmp_path / 'suite'}", f"prefixes={tmp_path / 'prefixes'}"])
    results = ablate(config)
    assert len(results.parts) == 11 and results.epochs_trained < results.epochs_without_sharing
    assert {claim.verdict for claim in results.claims} <= {"confirmed", "not confirmed", "contradicted"}
    assert {claim.number for claim in results.claims} >= {2, 3, 4, 5, 6, 7, 8, 10}
    runs_on_disk = list((tmp_path / "suite" / "runs").glob("*/seed*"))
    assert len(runs_on_disk) == 2 * len(results.arms)
    forked = [arm for arm in results.arms if arm.fork_epoch > 0]
    assert all(seed.perturbations and seed.feature_gap is not None for arm in forked for seed in arm.seeds)


@pytest.mark.parametrize("name", ["strength", "datasets", "mitigations", "bias"])
def test_every_other_suite_runs(name: str, tmp_path: Path) -> None:
    command = [f"suite={name}", "trainer.epochs=4", "seeds=2", "data.train_size=100", "data.test_size=50", "data.val_size=20"]
    command += ["attack.steps=1", "model.width=4", "trainer.batch_size=50", "jobs=1", "threads=1"]
    config = compose("ablate", [*command, f"out={tmp_path / 'suite'}", f"prefixes={tmp_path / 'prefixes'}"])
    config.teachers = str(tmp_path / "teachers")
    for arm in config.suite.arms:  # few images also for arms that set their own number
        arm.set |= {
            key: min(value, 100) // (2 if value == 500 else 1) for key, value in arm.set.items() if key == "data.train_size"
        }
        arm.set |= {key: 20 for key in arm.set if key == "data.val_size"}
    if config.suite.final is not None:
        config.suite.final = FinalConfig(steps=2, apgd_steps=2, targets=1, queries=2)
    try:
        results = ablate(config)
    except InputError as error:
        pytest.skip(str(error)) if "fashion-mnist" in str(error) else pytest.fail(str(error))
    assert [arm.name for arm in results.arms] == [arm.name for arm in config.suite.arms]
    assert all(len(arm.seeds) == 2 for arm in results.arms)
    assert {claim.verdict for claim in results.claims} <= {"confirmed", "not confirmed", "contradicted"}
    assert build_report(tmp_path / "suite").exists()
