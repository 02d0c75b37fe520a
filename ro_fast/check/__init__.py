"""Examines a data set before any training: what is wrong with it, how badly, and what to do first."""

from ro_fast.check.finding import Finding
from ro_fast.check.run import check
from ro_fast.data.check_file import scores

__all__ = ["Finding", "check", "scores"]
