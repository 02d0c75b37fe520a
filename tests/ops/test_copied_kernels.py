"""A file of kernels/ can be copied into another project along with the files it imports, and needs torch and triton."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ro_fast.ops import OPS, backends
from ro_fast.testing import assert_close, backends_for, samples

kernels = pytest.importorskip("ro_fast.kernels")
FOLDER = Path(kernels.__file__).parent
FILES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("name", FILES)
def test_a_kernel_works_away_from_here(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / f"taken_{name}"
    taken.mkdir()
    waiting = [name]
    while waiting:
        text = (FOLDER / f"{waiting[-1]}.py").read_text(encoding="utf-8")
        (taken / f"{waiting.pop()}.py").write_text(text, encoding="utf-8")
        waiting += re.findall(r"^from \.(\w+) import", text, re.MULTILINE)
    (taken / "__init__.py").touch()
    alone = f"import sys; sys.modules['ro_fast'] = None; import taken_{name}.{name}"
    subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, check=True, timeout=120)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(f"taken_{name}.{name}")
    here = importlib.import_module(f"ro_fast.kernels.{name}")
    launchers = [launcher for launcher in kernels.__all__ if getattr(here, launcher, None) is getattr(kernels, launcher)]
    assert launchers
    used = False
    for op in OPS:
        if op not in launchers or backends_for(op)["triton"]:
            continue
        sample = next(iter(samples(op, torch.float32)))
        with backends.use_backend("reference"):
            reference = sample.run()
        monkeypatch.setattr(kernels, op, getattr(module, op))
        backends._resolve.cache_clear()
        with backends.use_backend("triton"):
            ours = sample.run()
        backends._resolve.cache_clear()
        assert_close(ours, reference, sample.truth(), torch.float32, sample)
        used = True
    assert used or "TRITON_INTERPRET" in str(backends_for(launchers[0])["triton"])
