"""The campaign of faults: it sees a fault where there is one, and there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ro_fast.benchmarks import faults
from ro_fast.benchmarks.faulty import kills
from ro_fast.benchmarks.faulty.files import TRAIN
from ro_fast.benchmarks.faulty.trial import Count, Ended, altered


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> kills.Undisturbed:
    folder = tmp_path_factory.mktemp("faults")
    return kills.Undisturbed(kills.Writer(altered(TRAIN, "out=out", "trainer.epochs=15")), folder, folder / "undisturbed")


@pytest.mark.parametrize("kind", [kind for kind in kills.FOLDERS if kind not in kills.NEED_MOUNT])
def test_training_survives(kind: str, training: kills.Undisturbed, tmp_path: Path) -> None:
    count = kills.FOLDERS[kind](training, tmp_path / "p", 0)
    assert not count.examples and count.continued == 1


@pytest.mark.parametrize("kind", kills.NEED_MOUNT)
def test_training_survives_a_disk(kind: str, training: kills.Undisturbed, tmp_path: Path) -> None:
    if not kills.can_mount(tmp_path / "mount"):
        pytest.skip("needs the right to mount a file system")
    count = kills.FOLDERS[kind](training, tmp_path / "p", 0)
    assert not count.examples and count.continued == 1


def test_faults_are_counted(training: kills.Undisturbed, tmp_path: Path) -> None:
    count = Count("x", tried=3)
    crashed = Ended(("train",), 1, "Traceback (most recent call last)\nKeyError: 'a'\n")
    (tmp_path / "p").mkdir()
    other = kills.Undisturbed.__new__(kills.Undisturbed)
    other.writer, other.result = training.writer, training.result | {"more.txt": "something"}
    other.judge(count, tmp_path / "p", [crashed, Ended(("train",), None, "")], "about")
    assert (count.tracebacks, count.hangs, count.differing, count.continued) == (1, 1, 1, 0)
    found = faults.Campaign(0, [count], 1.0, ["disk full: needs a disk"], "cpu", "torch", "source")
    assert "1 different results, 1 tracebacks, 1 hangs and 0 writes outside" in faults.said(found)
    assert "| all | 3 | 0 | 0 | 1 | 1 | 1 | 0 |" in faults.table(found)


@pytest.mark.faults
def test_the_whole_campaign_finds_no_fault(tmp_path: Path) -> None:
    number = {"kills": 50, "folders": 1, "flips": 210, "files": 150, "lines": 600}
    found = faults.campaign(tmp_path, number, seed=1, jobs=2)
    assert not [example for count in found.counts for example in count.examples]
