"""The texts of pages in one language: YAML files of the same keys, whose strings have places for numbers.

``texts`` beside this file holds what all pages share; a page's own come on top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ro_fast.errors import InputError
from ro_fast.said import Said, Together

LANGUAGES = ("en", "ja")


class Words:
    """The texts of one language, filled in with numbers.

    Raises:
        InputError: if there are none in that language.
    """

    def __init__(self, folder: Path | None = None, language: str = "en") -> None:
        if language not in LANGUAGES:
            raise InputError(f"report.language={language} is unknown; available: {', '.join(LANGUAGES)}")
        self.language = language
        shared, own = _read(Path(__file__).parent / "texts", language), _read(folder, language) if folder else {}
        self.texts = shared | own | {"said": shared.get("said", {}) | own.get("said", {})}

    def __call__(self, key: str, **values: Any) -> Any:
        """The text at a dotted key; the {names} in strings are filled in."""
        text = self._at(key)
        if isinstance(text, list):
            return [item.format(**values) if isinstance(item, str) else item for item in text]
        return text.format(**values) if isinstance(text, str) else text

    def _at(self, key: str) -> Any:
        text: Any = self.texts
        for name in key.split("."):
            text = text[name]
        return text

    def sentence(self, text: str) -> str:
        """What was said, as a sentence of its own."""
        told = self.say(text)
        return f"{told[:1].upper()}{told[1:]}{self('page.stop')}"

    def say(self, text: str) -> str:
        """What was said in English, in this language; what only English has stays, such as the words of a user's own suite."""
        if self.language == "en":
            return str(text)
        if isinstance(text, Together):
            return str(self(f"page.between.{text.between}")).join(map(self.say, text.parts))
        if not isinstance(text, Said):
            phrases = self.texts.get("phrases", {})  # of the shipped suites
            return " + ".join(phrases.get(part, part) for part in text.split(" + "))
        try:
            there = self._at(f"said.{text.key}")
        except KeyError:  # such as an arm of the user's own
            return str(text)
        values = {name: self.say(value) if isinstance(value, str) else value for name, value in text.values.items()}
        return str(there.format(**values))


def _read(folder: Path, language: str) -> dict[str, Any]:
    import yaml

    texts: dict[str, Any] = yaml.safe_load((folder / f"{language}.yaml").read_text(encoding="utf-8"))
    return texts
