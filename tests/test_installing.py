"""The line that brings what is missing, and which ro_fast Python runs: installed or not, in a clone's root and elsewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ro_fast import _build, installing
from ro_fast.cli import doctor

ROOT = Path(__file__).parents[1]
REQUIRES = ("here>=1; extra == 'train'", "a-missing>=2; extra == 'train'", "elsewhere; platform_system == 'X' and extra == 'gpu'")


def install(site: Path, *requirements: str, editable: Path | None = None) -> None:
    """What pip leaves in site-packages."""
    info = site / "ro_fast-0.1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {requirement}" for requirement in [*requirements, "ro_fast[gpu,train]; extra == 'all'"]]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: ro_fast", "Version: 0.1.0", *lines, ""]))
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("ro_fast-0.1.0.dist-info/INSTALLER,,\nro_fast-0.1.0.dist-info/RECORD,,\n")
    if editable is not None:
        origin = {"url": editable.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(origin))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where packages are installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    (tmp_path / "site" / "here-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "here-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: here\nVersion: 1.0\n")
    return tmp_path / "site"


def test_the_line_names_what_is_missing_and_doctor_says_the_same(site: Path) -> None:
    install(site, *REQUIRES)
    assert installing.pip_install("train") == "pip install 'a-missing>=2'"
    assert [line for line in doctor.report().splitlines() if line.startswith("extra")] == [
        "extra [train]: missing a-missing>=2: pip install 'a-missing>=2'",
        "extra [gpu]: complete",
        "extra [all]: missing a-missing>=2: pip install 'a-missing>=2'",
    ]


def test_where_nothing_is_installed_the_line_installs_the_clone(site: Path) -> None:
    line = shlex.split(installing.pip_install("export"))
    assert line == ["pip", "install", "-e", f"{ROOT}[export]"]
    assert shlex.join(line) in doctor.report().replace("[train]", "[export]")


def test_no_message_installs_ro_fast_from_an_index() -> None:
    for path in [*ROOT.glob("*.md"), *(p for top in ("ro_fast", "kernels", "benchmarks") for p in (ROOT / top).rglob("*.py"))]:
        assert not re.search(r"pip install (-\S+ )*['\"]?ro[-_]fast", path.read_text(encoding="utf-8")), path


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone beside a folder in which it is installed."""
    root = tmp_path_factory.mktemp("first") / "clone"
    for name in ("ro_fast", "kernels", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", root)
    site = root.parent / "site"
    install(site, *REQUIRES)
    shutil.copytree(root / "ro_fast", site / "ro_fast")
    shutil.copytree(root / "configs", site / "ro_fast" / "configs")
    return root


def where(cwd: Path, *path: Path) -> list[str]:
    """The files of ro_fast and of its configs in a Python that has no other ro_fast than those of ``path``."""
    code = (
        f"import sys; sys.path[1:] += {[str(each) for each in path]}; import ro_fast, ro_fast.configs\n"
        "print(ro_fast.__file__, ro_fast.configs.__file__)"
    )
    result = subprocess.run([sys.executable, "-S", "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return [str(Path(file).parent) for file in result.stdout.split()]


def test_the_installed_package_runs_in_a_clones_root_too(clone: Path) -> None:
    site = clone.parent / "site"
    assert where(clone, site) == where(clone.parent, site) == [f"{site}/ro_fast", f"{site}/ro_fast/configs"]


def test_a_clone_that_is_not_installed_runs_whole(clone: Path) -> None:
    assert where(clone) == [f"{clone}/ro_fast", f"{clone}/configs"]
    assert where(clone.parent, clone, clone.parent / "site") == [f"{clone}/ro_fast", f"{clone}/configs"]  # named on purpose


def test_without_torch_one_sentence_says_how_to_install(clone: Path) -> None:
    result = subprocess.run([sys.executable, "-S", "-m", "ro_fast", "doctor"], cwd=clone, capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stderr == f"ro_fast needs torch, which is not installed: pip install -e '{clone}[train]'\n"


def test_doctor_names_the_installed_package_that_a_clone_hides(site: Path, tmp_path: Path) -> None:
    install(site, editable=tmp_path / "another clone")
    assert f"which hides the installed {tmp_path}/another clone/ro_fast" in doctor.report().splitlines()[0]


def test_uninstalling_removes_what_was_built(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site)
    monkeypatch.setattr(installing, "PACKAGE", site / "ro_fast")
    for _ in range(2):
        installing.add_file(site / "ro_fast" / "_C.abi3.so")
    assert (site / "ro_fast-0.1.0.dist-info" / "RECORD").read_text().splitlines()[2:] == ["ro_fast/_C.abi3.so,,"]


def test_build_shows_each_file_as_it_is_compiled(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.cpp").write_text(f"int {name}() {{ return 1; }}")
    seen: list[str] = []
    _build.compile_module([tmp_path / "one.cpp", tmp_path / "two.cpp"], tmp_path / "_C.abi3.so", seen.append)
    assert sorted(seen) == ["one.cpp", "two.cpp"]


def test_a_failed_build_shows_the_compilers_first_error(tmp_path: Path) -> None:
    (tmp_path / "error.h").write_text('#include "later.h"\n')  # its name stands above the error
    (tmp_path / "later.h").write_text("int f() { return first; }\nint g() { return second; }\n")
    (tmp_path / "bad.cpp").write_text('#include "error.h"\n')
    with pytest.raises(_build.BuildError, match=r"later.h:1:[^\n]*first[^\n]*$"):
        _build.compile_module([tmp_path / "bad.cpp"], tmp_path / "_C.abi3.so")
