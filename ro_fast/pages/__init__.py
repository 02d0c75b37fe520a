"""The templates of all pages: one style, one way to format values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ro_fast.storage.records import as_json

_HERE = Path(__file__).parent
WORTH = 4  # headings that make a table of contents worth having


def render(template: str, folder: Path = _HERE, filters: Mapping[str, Any] | None = None, **values: Any) -> str:
    """A page as HTML, from a template in a folder that can include the files beside this one; same values, same bytes."""
    from jinja2 import Environment, FileSystemLoader

    page = Environment(loader=FileSystemLoader([folder, _HERE]), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    named = values["t"].texts["page"]["fields"] if "t" in values else {}
    page.filters.update(value=_value, fields=as_json, field=lambda key: named.get(key, key.replace("_", " ")), **(filters or {}))
    made = page.get_template(template).render(**values)
    return made if "t" not in values else _with_contents(made, values["t"]("page.contents"))


def _with_contents(page: str, title: str) -> str:
    """The page with a table of contents before its first section."""
    heads: list[str] = []

    def named(found: re.Match[str]) -> str:
        heads.append(found[1])
        return f'<h2 id="part{len(heads)}">{found[1]}</h2>'

    page = re.sub(r"<h2>(.*?)</h2>", named, page)
    links = "".join(f'<li><a href="#part{number}">{head}</a></li>\n' for number, head in enumerate(heads, 1))
    table = f'<nav class="contents" aria-label="{title}"><h2>{title}</h2>\n<ul>\n{links}</ul>\n</nav>\n'
    return page.replace('<h2 id="part1">', table + '<h2 id="part1">', 1) if len(heads) >= WORTH else page


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
