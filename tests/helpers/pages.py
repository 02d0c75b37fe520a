"""What every page has to be."""

from __future__ import annotations

import re


def outside(page: str) -> list[str]:
    """What it would fetch from elsewhere."""
    sources = re.findall(r"""(?:\b(?:src|srcset|href)=["']?|url\()([^"')\s>]+)""", page)
    return [source for source in sources if not source.startswith(("#", "data:"))]


def english(page: str) -> list[str]:
    """Lines that hold three English words in a row, which a page in Japanese has only in commands and in names."""
    body = re.sub(r"<(script|dl|code).*?</\1>|ro-fast( [\w=./]+)*", "", page.split("<body>")[1], flags=re.DOTALL)
    return re.findall(r".*[A-Za-z]+ [a-z]{2,} [a-z]{2,}.*", re.sub(r"<[^>]+>", "\n", body))
