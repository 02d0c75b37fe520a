"""Pages in a real browser: Debian's chromium, without a display."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (390, 768, 1280)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Words on what lies behind them; the ratio of luminances that WCAG 2.2 asks for is 4.5, or 3 for large letters.
LOW_CONTRAST = """() => {
  const channel = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
    const style = getComputedStyle(e), inside = e.closest("svg");
    const [word, back] = [parts(inside ? style.fill : style.color), behind(inside ?? e)];
    const [a, b] = [light(word), light(back)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) low.push(`${e.tagName} ${e.textContent.trim().slice(0, 40)}`);
  }
  return low;
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, **options: Any) -> Iterator[Any]:
    """A page in a window of its own; what it writes to the console is an error."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.resolve().as_uri())
    yield page
    context.close()
    assert said == []


def fits(browser: Any, path: Path) -> None:
    """A page is as wide as the window, its words stand out from what is behind them, and all of it can be printed."""
    with opened(browser, path) as page:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (path, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(LOW_CONTRAST) == [], (path, scheme)
        page.emulate_media(media="print", color_scheme="light")
        inside = "[...document.querySelectorAll('details > :not(summary, input)')]"
        page.wait_for_function(f"{inside}.every((e) => e.checkVisibility({{contentVisibilityAuto: true}}))", timeout=5000)
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
