"""Sentences that are said in English wherever they arise, and that a page can say again in another language."""

from __future__ import annotations

from collections.abc import Iterable

# What stands between parts, as a page's texts name it.
NOTHING, SPACE, COMMA, SEMICOLON, AND = "nothing", "space", "comma", "semicolon", "and"
_BETWEEN = {NOTHING: "", SPACE: " ", COMMA: ", ", SEMICOLON: "; ", AND: " and "}


class Said(str):
    """A sentence, or a part of one, in English; its key and values find the same in the texts of another language.

    Args:
        key: its place in those texts.
        text: English, with a {name} for each value.
        values: numbers as they are to be read, names, or parts that are themselves said.

    >>> said = Said("cats", "{n} on {mat}", n=Said("count", "{n} cats", n=2), mat="mats")
    >>> said, said.key, said.values["n"].key
    ('2 cats on mats', 'cats', 'count')
    """

    key: str
    text: str
    values: dict[str, object]

    def __new__(cls, key: str, text: str, **values: object) -> Said:
        said = super().__new__(cls, text.format(**values))
        said.key, said.text, said.values = key, text, values
        return said

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, object]]:
        return (self.key, self.text), self.values


class Together(str):
    """Several parts in a row, each of which may be said."""

    parts: tuple[str, ...]
    between: str

    def __new__(cls, parts: Iterable[str], between: str) -> Together:
        parts = tuple(parts)
        said = super().__new__(cls, _BETWEEN[between].join(parts))
        said.parts, said.between = parts, between
        return said

    def __getnewargs__(self) -> tuple[tuple[str, ...], str]:  # type: ignore[override]
        return self.parts, self.between


def together(parts: Iterable[str], between: str = SPACE) -> Together:
    """Parts in a row, those that are empty left out.

    >>> together(["a", "", "b"], COMMA)
    'a, b'
    """
    return Together([part for part in parts if part], between)
