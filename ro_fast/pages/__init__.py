"""The templates of all pages: one style, one way to format values."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ro_fast.storage.records import as_json

_HERE = Path(__file__).parent


def render(template: str, folder: Path = _HERE, filters: Mapping[str, Any] | None = None, **values: Any) -> str:
    """A page as HTML, from a template in a folder that can include the files beside this one; same values, same bytes."""
    from jinja2 import Environment, FileSystemLoader

    page = Environment(loader=FileSystemLoader([folder, _HERE]), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters.update(value=_value, fields=as_json, **(filters or {}))
    return page.get_template(template).render(**values)


def embedded(pictures: Mapping[str, Path]) -> dict[str, str]:
    """PNG files in base64, to be embedded in a page."""
    return {name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
