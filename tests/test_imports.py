"""Who may import whom, and that importing stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"hydra", "omegaconf", "matplotlib", "jinja2", "rich", "scipy", "sklearn", "torchvision", "timm", "PIL", "yaml", "triton"}
WRAPPED = {"art", "foolbox", "eagerpy", "lightning", "pytorch_lightning", "torchattacks", "tensorboard", "wandb"}
LOWER = ("ro_fast/ops", "ro_fast/attacks", "ro_fast/methods", "ro_fast/models", "ro_fast/data")
UPPER = {"trainer", "suite", "cli", "report", "verdict", "statistics", "progress", "doctor"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late += [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    inside = {id(child) for node in late for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
            names += [f"{names[0]}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in inside


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("kernels"), ids=lambda p: p.name)
def test_kernels_can_be_copied_away(path: Path) -> None:
    for name, _ in imports(path):
        assert name.startswith(".") or name.split(".")[0] in {"torch", "triton", *sys.stdlib_module_names}, name


@pytest.mark.parametrize("path", files("ro_fast"), ids=lambda p: str(p.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for name, on_import in imports(path):
        top = name.split(".")[0]
        assert top not in {"tests", "benchmarks", "kernels"}, name
        assert not (top in HEAVY and on_import), f"{name} is imported with the module; it belongs in the function that uses it"
        assert not (name.startswith("ro_fast.kernels") and on_import), name
        if top in WRAPPED and on_import:
            assert relative.startswith("ro_fast/integrations/"), name
        if top in {"hydra", "omegaconf"}:
            assert relative == "ro_fast/cli/__init__.py", name
        if relative.startswith(LOWER) and top == "ro_fast":
            assert name.split(".")[1:2] == [] or name.split(".")[1] not in UPPER, name
        if relative.startswith("ro_fast/ops/") and top == "ro_fast":
            assert name.startswith("ro_fast.ops") or name == "ro_fast", name
        if top == "torch" and name.startswith("torch.library"):
            assert relative == "ro_fast/ops/_register.py"


def test_importing_the_operators_is_light() -> None:
    code = "import sys, ro_fast, ro_fast.ops; print([m for m in sys.argv[1].split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code, " ".join(HEAVY | WRAPPED)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
