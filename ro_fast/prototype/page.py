"""report.html of a prototype: one page for whoever decides, in English or Japanese, with the numbers of prototype.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.decision import EARLY, MORE, NATURAL, REPAIR
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import FIRST, HELPS
from ro_fast.findings.study_files import read_curves, read_results
from ro_fast.pages import embedded, render
from ro_fast.prototype.charts import save_charts
from ro_fast.report import build_report
from ro_fast.storage import checkpoint

LANGUAGES = ("en", "ja")
RESULT = "prototype.json"


class Words:
    """The texts of one language, filled in with numbers."""

    def __init__(self, language: str) -> None:
        import yaml

        path = Path(__file__).parent / "texts" / f"{language}.yaml"
        self._texts = yaml.safe_load(path.read_text(encoding="utf-8"))

    def __call__(self, key: str, **values: Any) -> Any:
        """The text at a dotted key; strings have their {names} filled in."""
        text: Any = self._texts
        for name in key.split("."):
            text = text[name]
        if isinstance(text, list):
            return [item.format(**values) for item in text]
        return text.format(**values) if isinstance(text, str) else text

    def estimate(self, value: float, ci95: list[float] | None, sign: bool = False) -> str:
        """Points with their interval, from fractions, within a sentence."""
        number, span = self.parts(value, ci95, sign)
        return str(self("estimate", value=number, interval=span) if span else self("bare", value=number))

    def parts(self, value: float, ci95: list[float] | None, sign: bool = False) -> tuple[str, str]:
        """The number and its interval, "" with one seed, which has none."""
        number = _points(value, "+" if sign else "")
        return number, "" if ci95 is None else self("interval", lo=_points(ci95[0]), hi=_points(ci95[1]))

    def action(self, action: Mapping[str, Any], result: Mapping[str, Any]) -> str:
        """What to do, in words; an arm without a text of its own by what it changes."""
        name, plan = action["action"], result["plan"]
        if name == REPAIR:
            return str(self("action.repair", what=self(f"kind.{action['kind']}")["name"]))
        if name == MORE:
            there = 2 * plan["train"] <= plan["available"]
            return str(
                self(
                    "action.more_data_there" if there else "action.more_data", size=2 * plan["train"], available=plan["available"]
                )
            )
        return str(self(f"action.{name}")) if name in self._texts["action"] else str(action.get("factor") or name)


def _points(value: float, sign: str = "") -> str:
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # + 0.0: no "-0.0"


def sentences(result: Mapping[str, Any], language: str) -> list[str]:
    """The risk, what was found, and what to do first."""
    words = Words(language)
    level, gap = result["risk"]["level"], result["risk"]["gap"]
    first = next((action for action in result["actions"] if action["verdict"] == FIRST), None)
    return [
        words("risk", level=words(f"level.{level}")),
        words(f"found.{level}", gap=words.estimate(gap["mean"], gap["ci95"])),
        words("first_none") if first is None else words("first", what=words.action(first, result), gain=_brings(first, words)),
    ]


def _brings(action: Mapping[str, Any], words: Words) -> str:
    if "gain" not in action:
        return ""
    gain = words.estimate(action["gain"]["difference"], action["gain"]["ci95"])
    return str(words("first_gain", gain=gain, work=f"{action['work']:.2f}"))


def write_page(result: Mapping[str, Any], out: Path, language: str) -> Path:
    """Writes the suite's own report, the charts and ``report.html`` into the prototype's folder."""
    suite = out / "suite"
    build_report(suite)
    curves = read_curves(suite, read_results(suite))
    charts = save_charts(result, curves, out / "figures")
    page = out / "report.html"
    page.write_text(_render(result, charts, language), encoding="utf-8")
    return page


def rebuild_page(out: Path, language: str | None = None) -> Path:
    """Writes the page anew from prototype.json and the runs beside it, in another language where one is given.

    Raises:
        InputError: on a language that is not there, and on a prototype.json that is not complete.
    """
    if language is not None and language not in LANGUAGES:
        raise InputError(f"report.language={language} is unknown; there are: {', '.join(LANGUAGES)}")
    path = out / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        language = language or result["language"]
        result |= {"language": language, "sentences": sentences(result, language)}
        page = write_page(result, out, language)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no complete result ({error!r}): run the prototype again, it resumes") from error
    checkpoint.write_text(path, json.dumps(result, indent=1, ensure_ascii=False))
    return page


def _render(result: Mapping[str, Any], charts: Mapping[str, Path], language: str) -> str:
    words, plan = Words(language), result["plan"]
    best = next((name for name in result["worth"] if name not in (NATURAL, BASELINE)), None)
    best_words = words.action({"action": best}, result) if best else ""
    return render(
        "page.html.j2",
        Path(__file__).parent,
        t=words,
        name=Path(result["path"]).name if result["path"] else result["data"],
        result=result,
        plan=plan,
        sentences=sentences(result, language),
        evidence=_evidence(result, words),
        min_gap=f"{100 * result['rules']['min_gap']:g}",
        worth=[_worth(name, row, best_words, words) for name, row in result["worth"].items()],
        actions=[_row(number, action, result, words) for number, action in enumerate(result["actions"], 1)],
        missing=_missing(result, words),
        best=words("curves_best", what=best_words) if best else "",
        images=embedded(charts),
        commands=_commands(result),
    )


def _evidence(result: Mapping[str, Any], words: Words) -> list[str]:
    risk, rules = result["risk"], result["rules"]
    gap = words.estimate(risk["gap"]["mean"], risk["gap"]["ci95"])
    told = [words("evidence_gap", gap=gap, min_gap=f"{100 * rules['min_gap']:g}")]
    if risk["alarms"] is None:
        told.append(words("evidence_alarms_none"))
    else:
        rang = [epoch for epoch in risk["alarms"]["alarm_epochs"] if epoch is not None]
        epochs = words("list").join(map(str, rang))
        at = words("evidence_alarms_at", epochs=epochs, total=result["plan"]["epochs"]) if rang else ""
        told.append(words("evidence_alarms", rang=len(rang), seeds=risk["alarms"]["seeds"], at=at))
    if risk["label_errors"]:
        found = risk["label_errors"]
        told.append(words("evidence_labels", count=found["count"], share=f"{100 * found['share']:.1f}"))
    return told


def _row(number: int, action: Mapping[str, Any], result: Mapping[str, Any], words: Words) -> dict[str, Any]:
    gain, natural = action.get("gain"), action.get("natural")
    return {
        "number": number,
        "what": words.action(action, result),
        "verdict": words("verdict")[action["verdict"]],
        "helps": action["verdict"] in (FIRST, HELPS),
        "gain": (words("before"), "") if gain is None else words.parts(gain["difference"], gain["ci95"], sign=True),
        "natural": ("", "") if natural is None else words.parts(natural["difference"], natural["ci95"], sign=True),
        "work": f"{action['work']:.2f}" if "work" in action else "",
    }


def _worth(name: str, row: Mapping[str, Any], best: str, words: Words) -> dict[str, Any]:
    known = (NATURAL, BASELINE)
    return {
        "name": words(f"worth_of.{name}") if name in known else words("worth_of.best", what=best),
        **{key: words.parts(row[key]["mean"], row[key]["ci95"]) for key in ("natural", "robust")},
        "work": f"{row['work']:.2f}",
    }


def _missing(result: Mapping[str, Any], words: Words) -> str:
    curve = result["learning_curve"]
    if curve is None:
        return str(words("missing_unknown"))
    more = next(action for action in result["actions"] if action["action"] == MORE)
    gain = words.estimate(more["gain"]["difference"], more["gain"]["ci95"], sign=True)
    return str(words("missing_yes" if more["verdict"] in (FIRST, HELPS) else "missing_no", gain=gain))


def _commands(result: Mapping[str, Any]) -> list[str]:
    """What to run next, with what helps best in it."""
    options = {
        "label_smoothing": "method=label_smoothing",
        "mixup": "method.inputs=mixup",
        "ema": "method.averaging=ema",
        "exclude": "data.exclude=check.json",
        EARLY: "trainer.early_stop=ro",
    }
    best = [options[a["action"]] for a in result["actions"] if a["verdict"] in (FIRST, HELPS) and a["action"] in options][:1]
    path = f' data.path="{result["path"]}"' if result["path"] else ""
    data = f"data={result['data']}{path}"
    return [f"ro-fast ablate {data}", " ".join(["ro-fast train", data, *best]), "ro-fast evaluate checkpoint=..."]
