"""ro_fast inside other projects: their calls, this project's attack and detector. One library per file.

A file imports its library and says in one sentence what to install if it is missing; this package itself needs torch only.
"""

from __future__ import annotations

from ro_fast.integrations.monitor import RobustOverfittingMonitor

__all__ = ["RobustOverfittingMonitor"]
