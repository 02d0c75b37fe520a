"""report.html: one page that opens anywhere, offline, with its pictures inside."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ro_fast.errors import InputError
from ro_fast.findings.study_files import Curves, read_curves, read_results
from ro_fast.findings.verdict import BASELINE, compare_arms, interval, points, write_finding
from ro_fast.pages import embedded, render
from ro_fast.report.gallery import FIGURES, save_figures

DEFAULT_FIGURES = ("curves", "gap", "small_loss_share")
_OF_A_PART = ("suite", "question", "fork_epoch", "x_label", "rules", "ranking", "ranking_rules", "claims", "finding", "figures")


def build_report(run_dir: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` of a finished suite, from its results.json and metrics.

    Args:
        run_dir: the suite's output folder.

    Returns:
        The path of report.html. The same folder gives the same bytes.

    Raises:
        InputError: a file is missing or broken, the folder cannot be written, or a package is not installed.
    """
    for module in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"the report needs {module}: pip install 'ro_fast[train]'")
    run_dir = Path(run_dir)
    results = read_results(run_dir)
    curves = read_curves(run_dir, results)
    report = run_dir / "report.html"
    try:
        parts = [_part(results, part, curves, run_dir / "figures") for part in _parts_in(results)]
        report.write_text(_render(results, parts), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write the report into {run_dir} ({error.strerror}): give a folder you may write to"
        ) from error
    return report


def _parts_in(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The questions of a suite, each with its own arms; a suite of one question is its only part."""
    if results.get("parts"):
        by_name = {arm["name"]: arm for arm in results["arms"]}
        return [
            {**part, "prefix": f"{part['suite']}-", "arms": [{**by_name[arm["name"]], **arm} for arm in part["arms"]]}
            for part in results["parts"]
        ]
    return [{**{key: results.get(key) for key in _OF_A_PART}, "prefix": "", "arms": results["arms"]}]


def _part(results: Mapping[str, Any], part: Mapping[str, Any], curves: Curves, folder: Path) -> dict[str, Any]:
    """What the page shows of one question."""
    own = {arm["name"]: curves[arm["name"]] for arm in part["arms"]}
    drawn = {**part, "all_arms": results["arms"]}
    names = [name for name in part.get("figures") or DEFAULT_FIGURES if _can_draw(name, part)]
    paths = save_figures(drawn, own, folder, names, part["prefix"])
    images = embedded(paths)
    finding = _finding(results, part)
    return {
        **part,
        "sentences": finding["sentences"],
        "effects": {entry["name"]: entry["text"] for entry in finding.get("arms", [])},
        "figures": [
            {"caption": FIGURES[name][1], "wide": images[name], "narrow": images[f"{name}_narrow"]} for name in names
        ],
        "comparisons": [
            c for c in compare_arms(part["arms"]) if c["metric"] == "last_robust_acc" or c["b"] != BASELINE
        ],
    }


def _finding(results: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What results.json found, so that page and file say the same."""
    if part.get("finding"):
        return part["finding"]
    if part.get("rules"):
        return write_finding({"data": results["data"], "arms": part["arms"]}, part["rules"])
    return {"sentences": ["This suite fixes no rules, so its numbers stand without a verdict."]}


def _can_draw(name: str, part: Mapping[str, Any]) -> bool:
    """Figures of features need arms that measured them, those of gain and cost a ranking."""
    if name == "gain_cost":
        return bool(part.get("ranking"))
    if name not in ("features", "correlation"):
        return True
    return all("feature_gap" in seed for arm in part["arms"] for seed in arm["seeds"])


def _render(results: Mapping[str, Any], parts: list[dict[str, Any]]) -> str:
    several = bool(results.get("parts"))
    return render(
        "template.html.j2",
        Path(__file__).parent,
        filters={"points": points, "interval": interval},
        results=results,
        parts=parts,
        several=several,
        sentences=results["finding"]["sentences"] if several else parts[0]["sentences"],
        paper=next((part["rules"]["paper"] for part in parts if (part.get("rules") or {}).get("paper")), None),
    )

