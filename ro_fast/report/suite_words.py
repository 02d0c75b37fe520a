"""The words of a suite's page: its texts, its arms' names, and what results.json says in English."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ro_fast.findings.amounts import arm_name, number
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.statistics import Interval
from ro_fast.pages.words import Words


class SuiteWords(Words):
    """One language's texts.

    Args:
        language: "en" or "ja".
        said: English sentence -> the same, said: :func:`ro_fast.findings.again.said_again`.
    """

    def __init__(self, language: str, said: Mapping[str, str] | None = None) -> None:
        super().__init__(Path(__file__).parent / "texts", language)
        self._said = said or {}

    def say(self, text: str) -> str:
        """A sentence of results.json, in this language if it is known."""
        return super().say(self._said.get(text, text))

    def arm(self, name: str) -> str:
        """An arm's name: in English with spaces, elsewhere as it is written on the command line."""
        return self.say(arm_name(name))

    def role(self, arm: Arm) -> str:
        """What an arm leaves out or adds; "" if it has no factor."""
        if not arm.factor:
            return ""
        factor = self.say(arm.factor)
        return str(self(f"suite.role.{arm.role}", factor=factor)) if arm.role in self("suite.role") else factor

    def verdict(self, verdict: str) -> str:
        """The verdict on a claim, a mitigation or a property."""
        return str(self("suite.verdict")[verdict])

    def span(self, ci95: Interval) -> str:
        """An interval of fractions, in hundredths."""
        return str(self("suite.span", low=number(ci95[0]), high=number(ci95[1])))

    def spread(self, ci95: Interval) -> str:
        """An interval of multiples."""
        return str(self("suite.span", low=f"{ci95[0]:.2f}", high=f"{ci95[1]:.2f}"))
