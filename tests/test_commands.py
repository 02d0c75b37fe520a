"""Every command and Python block that the documents print works as printed.

Here each is composed and its keys, files and flags are checked; ``pytest -m documents`` runs them on small settings (minutes).
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.steps import make_step

from ro_fast.cli import COMMANDS, compose
from ro_fast.config import BenchConfig, TrainConfig
from ro_fast.methods import Step
from ro_fast.training.validate import check

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "docs/scale.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
PROGRAMS = ("ro-fast", "python", "pytest", "pip", "benchmarks/on_gpu.sh")
CONTRIBUTORS = "method=f"  # the placeholder of a method to be written

# Later settings win. Not run even then: what installs or builds (.ci/run does), whole test runs, measurements that take an hour
# or rewrite the stored results (benchmarks.run, levers, detector, architectures, documents), and what needs a GPU.
RUN = ["data.train_size=60", "data.test_size=20", "attack.steps=1", "trainer.epochs=4", "threads=1", "model.width=4"]
SMALL = {
    "train": RUN,
    "ablate": [*RUN, "seeds=1", "jobs=2", "launcher.cluster=local", "launcher.gpus=0", "device=cpu"],
    "prototype": ["budget=90s", "threads=1", "model.width=4"],
    "evaluate": ["level=quick"],
    "bench": ["groups=[operators]", "fail_under=null"],
}


def commands(text: str) -> list[str]:
    """The commands of a document's blocks and of its inline code, each once, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"^    (\S.*)$", rest, re.MULTILINE)
    codes = [code for code in re.findall(r"`([^`\n]+)`", rest) if " " in code and "<" not in code]
    inline = [code for code in codes if code.split()[0] in PROGRAMS]
    printed = [shlex.join(shlex.split(part, comments=True)) for line in [*lines, *inline] for part in line.split(" && ")]
    return list(dict.fromkeys(command for command in printed if CONTRIBUTORS not in command))


ALL = {name: commands(text) for name, text in TEXTS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader types them: with images, a curve and CIFAR-10's files of the names that are printed."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("reader")
    draw = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (folder / "my_images" / kind).mkdir(parents=True)
        for i in range(60):
            Image.fromarray(draw.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(folder / "my_images" / kind / f"{i}.png")
    rise = [f"{epoch},{0.3 + 0.02 * min(epoch, 10)}" for epoch in range(20)]
    (folder / "log.csv").write_text("\n".join(["epoch,test_robust_acc", *rise, ""]))
    batches = folder / "cifar" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images = draw.integers(256, size=(40, 3072), dtype=np.uint8)
        (batches / name).write_bytes(pickle.dumps({b"data": images, b"labels": [i % 10 for i in range(40)]}))
    return folder


@pytest.mark.parametrize("command", sorted({command for each in ALL.values() for command in each}))
def test_a_printed_command_can_be_run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z]+=", word)]
    program, arguments = words[0], words[1:]
    flags = [word for word in arguments if word.startswith("--")]
    if program == "ro-fast":
        name, *keys = arguments
        assert name in COMMANDS
        if COMMANDS[name].schema is not None and keys != ["--help"]:
            if "-m" in keys:  # the first run of the sweep
                keys = [key.partition(",")[0] for key in keys if key != "-m" and not key.startswith("hydra/")]
            config = compose(name, keys)
            if isinstance(config, TrainConfig):
                check(config)
            if isinstance(config, BenchConfig):
                from ro_fast.benchmarks.run import GROUPS

                assert set(config.groups) <= set(GROUPS)
    elif program == "python":
        module = arguments[arguments.index("-m") + 1]
        place = ROOT / module.removeprefix("ro_fast.").replace(".", "/")
        file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
        assert all(f'"{flag}"' in file.read_text(encoding="utf-8") for flag in flags)
    elif program == "pytest":
        paths = [word for before, word in zip(words, arguments, strict=False) if before not in ("-n", "-m") and word[0] != "-"]
        assert all((ROOT / path).exists() for path in paths)
        assert "-m" not in arguments or f'"{arguments[arguments.index("-m") + 1]}: ' in (ROOT / "pyproject.toml").read_text()
    elif program == "pip":
        known = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
        asked = [extra for word in arguments for part in re.findall(r"^\.\[(.+)\]", word) for extra in part.split(",")]
        assert arguments[0] == "install" and set(asked) <= known
    else:
        script = ROOT / program
        assert os.access(script, os.X_OK), f"{program} is of a kind that this test can't check"
        assert all(flag in script.read_text() for flag in flags)


def test_the_python_block_of_the_readme_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXTS["README.md"], re.MULTILINE | re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})


def test_the_method_of_the_contributors_halves_small_losses() -> None:
    (block,) = re.findall(r"^  ```python\n(.*?)^  ```", TEXTS["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "Tensor": torch.Tensor, "Step": Step}
    exec(compile(textwrap.dedent(block), "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    step = make_step(1.2)
    losses = torch.nn.functional.cross_entropy(step.model(step.x_adv), step.y, reduction="none")
    expected = sum(loss * (0.5 if loss < 1.2 else 1.0) for loss in losses) / 16
    torch.testing.assert_close(names["half_loss"](make_step(1.2)), expected)


@pytest.mark.documents
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_a_document_run(document: str, folder: Path) -> None:
    for command in ALL[document]:
        words = shlex.split(command)
        if words[0] == "ro-fast" and words[1] != "build":
            words = [sys.executable, "-m", "ro_fast", *words[1:], *([] if "--help" in words else SMALL.get(words[1], []))]
        elif words[0] == "pytest" and any("/" in word for word in words):
            words = [sys.executable, "-m", "pytest", "--collect-only", f"--rootdir={ROOT}", "-q"]
            words += [str(ROOT / word) for word in shlex.split(command) if "/" in word]
        elif "ro_fast.benchmarks.gpu" in words:
            words = [sys.executable, *words[1:], "--dry", "--out", "gpu"]
        elif "--dry" in words:
            words = ["env", f"OUT={folder / 'on_gpu'}", str(ROOT / words[0]), "--dry"]
        else:
            continue
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
