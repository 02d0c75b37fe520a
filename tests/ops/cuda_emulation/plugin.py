"""A pytest plugin (-p cuda_emulation.plugin): CUDA's operators, executed on this CPU, in place of the CPU's native ones."""

from __future__ import annotations

import importlib.util
import os
import sys

import torch  # noqa: F401  (before a module that links to it)

spec = importlib.util.spec_from_file_location("ro_fast._C_cuda", os.environ["RO_FAST_EMULATED"])
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["ro_fast._C"] = module
