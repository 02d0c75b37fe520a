"""What CONTRIBUTING.md says about the code exists: files, names, and packages in the order of their imports."""

from __future__ import annotations

import re
from pathlib import Path

from test_imports import ORDER

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_step_of_an_images_way_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([\w/.]+)` \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(rows) > 8
    for file, names in rows:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"\b{name.split('.')[-1]}\b", source), f"{file} has no {name}"


def test_every_file_that_is_named_exists() -> None:
    for name in re.findall(r"`((?:ro_fast|csrc|kernels|tests|configs|benchmarks)/[\w/]+(?:\.\w+)?/?)`", TEXT):
        assert (ROOT / name).exists(), name


def test_packages_are_told_in_the_order_of_their_imports() -> None:
    table = TEXT[TEXT.index("| package | holds |") : TEXT.index("`csrc` is the C++")]
    rows = [row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")]
    told = [name for row in rows[1:] for name in re.findall(r"`(\w+)`", row)]  # the first row holds those without an order
    assert told == [name for name in ORDER if name in told]
    untold = {"errors", "said", "installing", "config_values", "config", "progress", "_build"}
    untold |= {"kernels", "benchmarks", "__main__"}
    assert set(ORDER) - set(told) == untold
