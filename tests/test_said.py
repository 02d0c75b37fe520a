"""What is said in English can be said in Japanese too: the tables of texts hold the same keys and places."""

from __future__ import annotations

import ast
import pickle
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from ro_fast.findings.claims import CONFIRMED, CONTRADICTED, METRICS, OPEN
from ro_fast.findings.effects import WORDS
from ro_fast.findings.overfitting import IN_LOSS, NONE, ONE_SEED, OVERFITS, RISING, UNSETTLED
from ro_fast.pages.words import Words
from ro_fast.prototype.run import WITHOUT_SUSPECTS
from ro_fast.said import COMMA, Said, together

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "ro_fast").rglob("texts"))
# Keys made of a variable, and those that they become.
MADE = re.compile(
    r"count\.\w+|factor\.\w+|imbalance\.(no_|shares)\w*|leakage\.(nearly_)?identical|range\.(bytes|floats)|removal\.\w+|"
    r"metric\.\w+|(claim_verdict|code)\.\w+"
)


def flat(texts: Mapping[str, object], above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in texts.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def table(folder: Path, language: str) -> dict[str, object]:
    return flat(yaml.safe_load((folder / f"{language}.yaml").read_text(encoding="utf-8")))


def places(text: object) -> set[str]:
    lines = text if isinstance(text, list) else [text]
    return {name for line in map(str, lines) for _, name, _, _ in string.Formatter().parse(line) if name}


def calls() -> Iterator[tuple[str, set[str] | None]]:
    """The key of each sentence said anywhere, and the names of its values, None where they are not spelled out."""
    for path in (ROOT / "ro_fast").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Said" and isinstance(node.args[0], ast.Constant):
                names = [word.arg for word in node.keywords]
                yield node.args[0].value, None if None in names else {name for name in names if name}


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.parent.name)
def test_both_languages_have_the_same_keys_and_places(folder: Path) -> None:
    en = table(folder, "en")
    ja = {key: text for key, text in table(folder, "ja").items() if not key.startswith(("said.", "phrases."))}
    assert en.keys() == ja.keys()
    for key in en:
        assert places(ja[key]) == places(en[key]), key
        assert type(ja[key]) is type(en[key]) and (not isinstance(en[key], list) or len(en[key]) == len(ja[key])), key


def test_every_sentence_has_its_translation_and_none_is_left_over() -> None:
    texts = {key: text for folder in PAGES for key, text in table(folder, "ja").items()}
    said = {key.removeprefix("said."): text for key, text in texts.items() if key.startswith("said.")}
    keys = dict.fromkeys(key for key, _ in calls())
    assert len(keys) > 50 and [key for key in keys if key not in said] == []
    assert [key for key in said if key not in keys and not MADE.fullmatch(key)] == []
    for key, names in calls():
        assert names is None or places(said[key]) <= names, key


def test_a_suites_yaml_can_be_read_in_japanese() -> None:
    """Its questions, factors, claims, axes and literature; and no phrase is of an earlier version."""
    phrases = yaml.safe_load((ROOT / "ro_fast" / "report" / "texts" / "ja.yaml").read_text(encoding="utf-8"))["phrases"]
    there: set[str] = set()
    for path in (ROOT / "configs" / "suite").glob("*.yaml"):
        suite = yaml.safe_load(path.read_text(encoding="utf-8"))
        there |= {suite.get("question"), suite.get("x_label"), *suite.get("literature", [])}
        there |= {arm.get("factor") for arm in suite.get("arms", [])} | {claim["claim"] for claim in suite.get("claims", [])}
    there.add(WITHOUT_SUSPECTS)
    assert {text for text in there if text and re.search(r"[a-z]{2,}", text)} - phrases.keys() == set()
    assert phrases.keys() - there == set()


def test_every_verdict_and_effect_has_its_words() -> None:
    said = {key for folder in PAGES for key in table(folder, "ja")}
    made = [f"removal.{effect}" for effect in WORDS] + [f"metric.{name}" for name in METRICS]
    made += [f"claim_verdict.{verdict}" for verdict in (CONFIRMED, OPEN, CONTRADICTED)]
    made += [f"code.{code}" for code in (OVERFITS, IN_LOSS, NONE, UNSETTLED, RISING, ONE_SEED)]
    assert [key for key in made if f"said.{key.replace(' ', '_')}" not in said] == []


def test_what_is_said_survives_copies_and_is_said_in_japanese() -> None:
    count = Said("count.training_image", "{n} training images", n=3)
    half = Said("percent", "{value} %", value=1)
    said = Said("imbalance.few_test", "With {images}, by up to {half} points.", images=count, half=half)
    assert said == "With 3 training images, by up to 1 % points." and pickle.loads(pickle.dumps(said)).values == said.values
    words = Words(ROOT / "ro_fast" / "check" / "texts", "ja")
    both = together(["a", pickle.loads(pickle.dumps(said))], COMMA)
    assert words.say(both) == "a、訓練画像3枚だけでは、テスト精度に最大で1%ポイントの不確かさがあります。"
    assert words.say(Said("factor.my_own", "{name}", name="mine")) == "mine"
