"""Who may import whom, and that importing stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each may import itself and those before it in this list, never one after it: at import, in a function, or for types alone.
ORDER = (
    *("errors", "said", "installing", "config_values", "config", "progress", "_build"),
    *("kernels", "ops", "testing", "models", "storage", "environment", "data", "overfitting", "attacks", "parallel"),
    *("features", "findings", "methods", "pages", "evaluation", "protocol", "integrations", "check", "report"),
    *("torchrun", "training", "suite", "prototype", "benchmarks", "cli", "__main__"),
)
PUBLIC = {"__version__", "__file__", "_unsafe_view", "_to_copy"}  # the latter two are operators' own names
HEAVY = {
    *("hydra", "omegaconf", "matplotlib", "jinja2", "rich", "scipy", "sklearn", "torchvision", "timm", "PIL", "yaml", "triton"),
    *("msgspec", "ray", "submitit"),
}
WRAPPED = {"art", "foolbox", "eagerpy", "lightning", "pytorch_lightning", "torchattacks", "tensorboard", "wandb"}


def files(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert found
    return found


def module_of(path: Path) -> str:
    """A file's module, for kernels/ and benchmarks/ as packaged."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.startswith("ro_fast") else f"ro_fast.{name}"


FILES = {module_of(path): path for path in files("ro_fast", "kernels", "benchmarks")}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, by its full name, and whether the import runs when the file itself is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late += [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    inside = {id(child) for node in late for child in ast.walk(node)}
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])])
            base = base if node.level else str(node.module)
            inner = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES]
            names = inner if base == "ro_fast" or len(inner) == len(node.names) else [base, *inner]
        else:
            continue
        for name in names:
            yield name, id(node) not in inside


def test_every_package_has_its_place_in_the_list() -> None:
    there = {name.split(".")[1] for name in FILES if "." in name}
    assert there == set(ORDER), there ^ set(ORDER)


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_upwards(name: str) -> None:
    if name == "ro_fast":
        return  # names modules for its users, but imports none
    for other, _ in imports(FILES[name]):
        if other.startswith("ro_fast."):
            assert place(other) <= place(name), f"{name} imports {other}, which stands above it"


def place(name: str) -> int:
    """In the list; what runs commands or plans suites, and the writer of their results, stand above them."""
    above = ("ro_fast.benchmarks.faul", "ro_fast.benchmarks.documents", "ro_fast.benchmarks.scale")
    return len(ORDER) if name.startswith(above) else ORDER.index(name.split(".")[1])


def test_no_circle() -> None:
    arrows = {name: {other for other, _ in imports(path) if other in FILES and other != name} for name, path in FILES.items()}
    while free := [name for name, others in arrows.items() if not others & arrows.keys()]:
        for name in free:
            del arrows[name]
    # Modules that merely use a circle are removed too.
    while unused := [name for name in arrows if not any(name in others for others in arrows.values())]:
        for name in unused:
            del arrows[name]
    assert not arrows, f"in or between circles: {', '.join(sorted(arrows))}"


@pytest.mark.parametrize("name", FILES)
def test_importing_is_light_and_each_library_has_its_place(name: str) -> None:
    for other, on_import in imports(FILES[name]):
        top = other.split(".")[0]
        assert top not in {"tests", "helpers"}, other
        if top in {"hydra", "omegaconf"}:
            assert name.startswith("ro_fast.cli"), other
        if name.startswith(("ro_fast.kernels", "ro_fast.benchmarks")):
            continue
        assert not (top in HEAVY and on_import), f"{other} is imported with the module; it belongs in the function that uses it"
        assert not (other.startswith("ro_fast.kernels") and on_import), other
        if top in WRAPPED and on_import:
            assert name.startswith("ro_fast.integrations."), other
        if other.startswith("torch.library"):
            assert name == "ro_fast.ops._register"


@pytest.mark.parametrize("name", FILES)
def test_private_names_of_torch_stand_in_one_file(name: str) -> None:
    if name == "ro_fast.ops._torch_private":
        return
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # of a longer chain
    chains = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner]
    chains += [other for other, _ in imports(FILES[name])]
    for chain in chains:
        first, *rest = re.match(r"[\w.]*", chain)[0].split(".")  # up to a call or an index
        assert first not in {"torch", "nn", "aten"} or not any(p.startswith("_") and p not in PUBLIC for p in rest), chain


@pytest.mark.parametrize("path", files("kernels"), ids=lambda p: p.name)
def test_kernels_need_torch_and_triton_alone(path: Path) -> None:
    for name, _ in imports(path):
        assert name.startswith("ro_fast.kernels") or name.split(".")[0] in {"torch", "triton", *sys.stdlib_module_names}, name


def test_importing_the_operators_is_light() -> None:
    code = "import sys, ro_fast, ro_fast.ops; print([m for m in sys.argv[1].split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code, " ".join(HEAVY | WRAPPED)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
