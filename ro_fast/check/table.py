"""check.csv: one line for each image of each finding, what to look at first coming first; opens in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from ro_fast.check.finding import Finding, Image
from ro_fast.data import ImageData

COLUMNS = ("split", "row", "file", "class", "used_for", "finding", "severity", "score", "partner", "action")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


def table(findings: Sequence[Finding], data: ImageData, validates: np.ndarray) -> str:
    """The lines with their header.

    ``row`` is the number that the user knows the image by (``ImageData.numbering``), ``used_for`` what this split does with
    it, ``score`` the finding's own (for suspect labels one minus the label's probability, for margins a distance), ``partner``
    the other image of a pair.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for finding in sorted(findings, key=lambda finding: finding.urgency):
        for image in finding.images():
            writer.writerow(map(_safe, _cells(finding, image, data, validates)))
    return text.getvalue()


def _cells(finding: Finding, image: Image, data: ImageData, validates: np.ndarray) -> list[str]:
    part, i = image
    reason = finding.reasons[image]
    rows, files, y = (
        (data.rows_train, data.files_train, data.y_train) if part == "train" else (data.rows_test, data.files_test, data.y_test)
    )
    return [
        part,
        str(rows[i]),
        files[i] if files else "",
        data.class_name(int(y[i])),
        "test" if part == "test" else "validation" if validates[i] else "training",
        finding.kind,
        finding.severity,
        "" if reason.score is None else f"{reason.score:.6g}",
        "" if reason.partner is None else data.name_of(*reason.partner),
        reason.action,
    ]


def _safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
