"""Rewrites CUDA C++ to C++ that cuda_runtime.h in this folder executes: launches, shared memory, torch's CUDA device.

Whatever it doesn't know is left unchanged, and then does not compile.
"""

from __future__ import annotations

import re
from pathlib import Path

# Launch syntax, turned into an object that is called with the kernel's arguments.
_LAUNCH = re.compile(r"(\w+)<<<(.+?)>>>\(")
# Shared memory: extern if its size comes with the launch, otherwise one or several names of a type.
_DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")
_SHARED = re.compile(r"(?<!extern )__shared__ ([\w:]+) ([^;]+);")
_NAME = re.compile(r"(\w+)((?:\[[^\]]+\])*)(?:, |$)")
# What the host side requests from torch, and the device whose operators are registered.
_HOST = {
    "torch::stable::accelerator::DeviceGuard": "cuda_on_cpu::DeviceGuard",
    "aoti_torch_get_current_cuda_stream": "cuda_on_cpu::current_stream",
    "ro_fast_native, CUDA": "ro_fast_native, CPU",
}


def translate(text: str) -> str:
    """CUDA C++ as C++, line by line; raises ValueError for shared memory that is neither an array nor a scalar."""
    text = _LAUNCH.sub(r"cuda_on_cpu::launcher(\1, \2)(", text)
    text = _DYNAMIC.sub(r"\1* \2 = cuda_on_cpu::dynamic_shared<\1>();", text)
    text = _SHARED.sub(_shared, text)
    for theirs, ours in _HOST.items():
        text = text.replace(theirs, ours)
    return text


def _shared(found: re.Match[str]) -> str:
    kind, names = found.groups()
    parts = list(_NAME.finditer(names))
    if "".join(part[0] for part in parts) != names:
        raise ValueError(f"'{found[0]}' is not translated: arrays and scalars of one type are")
    return " ".join(f"auto& {part[1]} = cuda_on_cpu::shared<{kind}{part[2]}>([] {{}});" for part in parts)


def translate_tree(source: Path, target: Path) -> None:
    """All of a folder's C++ and CUDA as C++, a .cu as .cpp; compiler messages name the originals."""
    for path in sorted(source.rglob("*")):
        if path.suffix in (".h", ".cuh", ".cpp", ".cu"):
            out = target / path.relative_to(source)
            out = out.with_suffix(".cpp") if path.suffix == ".cu" else out
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(f'#line 1 "{path}"\n{translate(path.read_text(encoding="utf-8"))}', encoding="utf-8")
