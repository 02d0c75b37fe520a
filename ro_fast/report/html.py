"""report.html: one page that opens anywhere, offline, with its pictures inside."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ro_fast.errors import InputError
from ro_fast.report.curves import read_curves, read_results
from ro_fast.report.figures import save_figures
from ro_fast.verdict import BASELINE, compare_arms, interval, points, write_finding

BAND = "the mean over seeds, with the band from the lowest seed to the highest"
CAPTIONS = {
    "curves": f"Robust accuracy on training (dashed) and test images (solid) by epoch: {BAND}; the baseline's test "
    "curve in grey, the dotted line where the arms part, triangles where the learning rate drops.",
    "gap": "Robust overfitting gap by arm: the mean (diamond) with its 95 % interval over seeds (bar) and the seeds "
    "themselves (circles).",
    "small_loss_share": f"Share of training samples whose adversarial loss counts as small: {BAND}; where it nears "
    "0 or 100 %, removing the other part removes nothing or everything.",
}


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
        figures = save_figures(results, curves, run_dir / "figures")
        report.write_text(_render(results, figures), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write the report into {run_dir} ({error.strerror}): give a folder you may write to"
        ) from error
    return report


def _render(results: Mapping[str, Any], figures: Mapping[str, Path]) -> str:
    from jinja2 import Environment, FileSystemLoader

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(points=points, interval=interval, value=_value)
    images = {name: base64.b64encode(path.read_bytes()).decode() for name, path in figures.items()}
    finding = write_finding(results, results["rules"]) if results.get("rules") else None
    return page.get_template("template.html.j2").render(
        results=results,
        sentences=finding["sentences"]
        if finding
        else ["This suite fixes no rules, so its numbers stand without a verdict."],
        effects={entry["name"]: entry["text"] for entry in finding["arms"]} if finding else {},
        comparisons=[
            c for c in compare_arms(results["arms"]) if c["metric"] == "last_robust_acc" or c["b"] != BASELINE
        ],
        captions=CAPTIONS,
        images=images,
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
