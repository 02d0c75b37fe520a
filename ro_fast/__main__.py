"""``python -m ro_fast`` is ``ro-fast``."""

from __future__ import annotations

from ro_fast.cli import main

main()
