"""``python -m ro_fast`` is ``ro-fast``."""

from __future__ import annotations

import sys

from ro_fast.installing import installed_in, pip_install

try:
    from ro_fast.cli import main
except ModuleNotFoundError as error:  # in a clone that isn't installed, where nothing has brought torch yet
    line = pip_install("train") if installed_in() is None else f"pip install {error.name}"
    sys.exit(f"ro_fast needs {error.name}, which is not installed: {line}")

main()
