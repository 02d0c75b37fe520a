"""README and the results' pages give the figures of the files they name, and no others."""

from __future__ import annotations

import re

import pytest

from ro_fast.benchmarks import documents

# Decimal numbers that are not measurements: versions, arguments, and values in rules.
NO_MEASUREMENTS = {"3.10", "3.13", "2.0", "2310.00607", "255.0"}


@pytest.mark.parametrize("page", documents.PAGES, ids=str)
def test_a_page_says_what_its_files_hold(page) -> None:
    text = (documents.ROOT / page).read_text(encoding="utf-8")
    assert documents.written(text) == text, f"{page}: run python -m ro_fast.benchmarks.documents"


def test_readme_fits_and_has_no_figure_without_a_file() -> None:
    text = (documents.ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert set(re.findall(r"\d+\.\d+", documents.outside(text))) <= NO_MEASUREMENTS
    assert not re.findall(r"\d+ (?:s|ms|minutes|points)\b|\d ?%", documents.outside(text))


def test_a_changed_figure_is_found() -> None:
    text = (documents.ROOT / "README.md").read_text(encoding="utf-8")
    figure = re.search(r"was (\d\.\d\d) times as fast", text)[1]
    assert documents.written(text.replace(figure, "9.99")) == text
