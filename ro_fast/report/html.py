"""report.html: one self-contained page that opens offline, with its figures embedded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ro_fast.errors import InputError
from ro_fast.findings.again import said_again
from ro_fast.findings.amounts import interval, number, points
from ro_fast.findings.images import ClassMeans, class_means
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.study import RESULTS, Curves, Question, Results, questions, read_curves, read_results
from ro_fast.findings.verdict import Difference, Finding, compare_arms, write_finding
from ro_fast.installing import pip_install
from ro_fast.pages import render
from ro_fast.pages.chart import Drawing
from ro_fast.report.gallery import draw_figures
from ro_fast.report.suite_words import SuiteWords
from ro_fast.storage import records
from ro_fast.storage.checkpoint import write_text
from ro_fast.storage.run_folder import alone_in
from ro_fast.storage.saving import writing

DEFAULT_FIGURES = ("curves", "gap", "small_loss_share")


def build_report(run_dir: Path, language: str | None = None) -> Path:
    """Writes ``figures/*.png`` and ``report.html`` of a finished suite, from its results.json and metrics.

    Args:
        run_dir: the suite's output folder.
        language: "en" or "ja"; None: the one that the suite was run with.

    Returns:
        The path of report.html. The same folder gives the same bytes.

    Raises:
        InputError: if a file is missing or broken, the folder cannot be written, a package is not installed, or there are no
            texts in that language.
    """
    for module in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"the report needs {module}: {pip_install('train')}")
    run_dir = Path(run_dir)
    results = read_results(run_dir)
    curves = read_curves(run_dir, results)
    report = run_dir / "report.html"
    with alone_in(run_dir), writing(run_dir):
        with records.using(run_dir / RESULTS, "run the suite again, it resumes"):
            language = language or str(results.config.get("report.language") or "en")
            words = SuiteWords(language, None if language == "en" else said_again(run_dir, results))
            parts = [_section(results, question, curves, words, run_dir / "figures") for question in questions(results)]
            page = _render(results, parts, words)
        write_text(report, page)
    return report


@dataclass(frozen=True, kw_only=True)
class _Section(Question):
    """A question as shown on the page."""

    sentences: list[str]
    effects: dict[str, str]  # arm -> its result by the rules
    charts: dict[str, Drawing]  # by caption
    differences: list[Difference]  # shown in no table
    classes: list[ClassMeans]  # of the baseline


def _section(results: Results, question: Question, curves: Curves, words: SuiteWords, folder: Path) -> _Section:
    own = {arm.name: curves[arm.name] for arm in question.arms}
    names = [name for name in question.figures or DEFAULT_FIGURES if _can_draw(name, question)]
    drawn = draw_figures(question, own, words, folder, names)
    finding = _finding(results, question, words)
    return _Section(
        **vars(question),
        sentences=finding.sentences,
        effects={judged.name: judged.text for judged in finding.arms},
        charts={words(f"suite.captions.{name}"): drawing for name, drawing in drawn.items()},
        classes=[row for arm in question.arms if arm.name == BASELINE for row in class_means(arm, results.class_names)],
        differences=[c for c in compare_arms(question.arms) if c.metric == "last_robust_acc" or c.b != BASELINE],
    )


def _finding(results: Results, question: Question, words: SuiteWords) -> Finding:
    """The findings of results.json, so that page and file agree."""
    if question.finding is not None:
        return question.finding
    if question.rules is not None:
        return write_finding(results.named, question.arms, question.rules)
    return Finding([words("suite.no_rules")])


def _can_draw(name: str, question: Question) -> bool:
    """Figures of features need arms that measured them; those of gain and cost need a ranking."""
    if name == "gain_cost":
        return bool(question.ranking)
    if name not in ("features", "correlation"):
        return True
    return all(seed.feature_gap is not None for arm in question.arms for seed in arm.seeds)


def _spent(results: Results) -> tuple[float, float] | None:
    """Seconds of training and of scoring, summed over runs; each run counts its prefix. None if they were not noted."""
    runs = [(s.train_seconds, s.seconds) for arm in results.arms for s in arm.seeds]
    known = [(train, total) for train, total in runs if train is not None and total is not None]
    return (sum(t for t, _ in known), sum(total - t for t, total in known)) if len(known) == len(runs) else None


def _render(results: Results, parts: list[_Section], words: SuiteWords) -> str:
    several = results.parts is not None
    return render(
        "template.html.j2",
        Path(__file__).parent,
        filters={"points": points, "interval": interval, "number": number},
        t=words,
        results=results,
        parts=parts,
        several=several,
        sentences=results.finding.sentences if several else parts[0].sentences,
        spent=_spent(results),
        literature=list(dict.fromkeys(work for part in parts for work in part.literature)),
        paper=next((part.rules.paper for part in parts if part.rules and part.rules.paper), None),
    )
