"""How wide a text is, where nothing sets it that could tell: in SVG, and in the legends of figures."""

from __future__ import annotations

import unicodedata


def is_wide(letter: str) -> bool:
    """Whether a letter is as wide as it is high, as those of Japanese are."""
    return unicodedata.east_asian_width(letter) in "WF"


def width_of(text: str) -> float:
    """In units of the letter size; Latin letters are a good half as wide as they are high.

    >>> round(width_of("ab"), 2), width_of("日本")
    (1.16, 2.0)
    """
    return sum(1.0 if is_wide(letter) else 0.58 for letter in text)
