"""Whatever stands in a file: read, or refused in one sentence that is not Python's; a changed one never passes for sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from ro_fast.benchmarks.faulty.damage import bad_file, flip
from ro_fast.benchmarks.faulty.files import MAKERS, WRITTEN, make_files
from ro_fast.benchmarks.faulty.trial import Count


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(folder, MAKERS[:-1])  # without a prototype, which takes longest
    return folder


def test_bad_files_end_in_a_sentence(files: Path, tmp_path: Path) -> None:
    total = Count("bad files")
    for seed in range(12):
        total.add(bad_file(files, tmp_path / "p", seed))
    assert not total.examples
    assert total.refused > total.tried / 2


@pytest.mark.parametrize("name", ["run/metrics.jsonl", "run/config.yaml", "exported/model.safetensors"])
def test_a_flipped_bit_is_refused_or_changes_nothing(name: str, files: Path, tmp_path: Path) -> None:
    which = next(number for number, (_, file) in enumerate(WRITTEN) if file == name)
    total = Count(name)
    for seed in range(3):
        total.add(flip(files, tmp_path / "p", which, seed))
    assert not total.examples
