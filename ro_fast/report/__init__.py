"""The report of a suite: figures and one page, made from what is on disk."""

from ro_fast.report.html import build_report

__all__ = ["build_report"]
