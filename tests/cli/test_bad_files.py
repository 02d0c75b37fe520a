"""Whatever stands in a file: read, or refused in one sentence that is not Python's."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.bad_files import broken_files, make_files
from helpers.bad_inputs import ended


@pytest.mark.parametrize(("count", "seed"), [(40, 0), pytest.param(300, 1, marks=pytest.mark.faults)])
def test_bad_files_end_in_a_sentence(count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_files()
    ends = [(done, ended(line)) for line, done in broken_files(count, seed)]
    assert not [(done, end.line[0], end.fault, end.stderr) for done, end in ends if end.fault]
    assert sum(end.code == 2 for _, end in ends) > count / 2
