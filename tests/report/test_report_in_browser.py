from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.browser import fits, opened
from helpers.suite_folder import make_run

from ro_fast.report import build_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(make_run(tmp_path_factory.mktemp("suite")))


def test_it_fits_any_window_and_paper(browser, report):
    fits(browser, report)


def test_in_japanese_too(browser, tmp_path):
    fits(browser, build_report(make_run(tmp_path), "ja"))


def test_arrow_keys_tell_the_values_of_a_chart(browser, report):
    with opened(browser, report) as page:
        chart, tip = page.locator("figure.chart").first, page.locator("figure.chart output").first
        chart.focus()
        said = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End", "Escape"):
            page.keyboard.press(key)
            said.append(tip.inner_text() if tip.is_visible() else "")
        assert said[0].startswith("baseline, training images: epoch 0: ")
        assert said[1].startswith("baseline, training images: epoch 1: ") and " % (" in said[1]
        assert said[2].startswith("baseline, test images: epoch 1: ")
        assert said[3].startswith("baseline, test images: epoch 39: ") and said[4] == ""


def test_the_pointer_tells_the_value_under_it(browser, report):
    """At both widths, for which the chart is drawn differently."""
    for width in (390, 1280):
        with opened(browser, report, width) as page:
            gap = page.locator("figure.chart").nth(1)
            drawing = gap.locator("svg:visible")
            drawing.scroll_into_view_if_needed()
            # The value is written above each diamond, the baseline's first.
            label = drawing.locator("text").filter(has_text=re.compile(r"^-?\d+\.\d$")).first
            box = label.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] + 3)
            assert gap.locator("output").inner_text().startswith(f"baseline: {label.text_content()} points (")


def test_an_arm_can_be_hidden(browser, report):
    with opened(browser, report) as page:
        share = page.locator("figure.chart").nth(2)
        line = share.locator("svg:visible [data-owner='attack strength']").first
        button = share.get_by_role("button", name="attack strength")
        assert line.is_visible() and button.get_attribute("aria-pressed") == "true"
        button.click()
        assert not line.is_visible() and button.get_attribute("aria-pressed") == "false"
        button.click()
        assert line.is_visible()


def test_tables_are_sorted_by_number(browser, report):
    with opened(browser, report) as page:
        table = page.locator("table").first
        head = table.get_by_role("button", name="Gap, points")
        orders = []
        for _ in range(2):
            head.click()
            cells = table.locator("tbody td[data-label='Gap, points']").all_inner_texts()
            orders.append([float(cell.split()[0]) for cell in cells])
        assert orders[0] == sorted(orders[0]) and orders[1] == orders[0][::-1] and len(set(orders[0])) > 3


def test_sorting_takes_the_first_number_of_a_cell_and_puts_empty_ones_last(browser, report):
    written = ["9.5 <small>1 to 20</small>", "", "82 <small>70.1 to 90</small>", "-3 / 1", "1,200"]
    written += ["< 0.01", "−4", "+8.25", "", "100"]
    with opened(browser, report) as page:
        table = page.locator("table").first
        cells = table.locator("tbody td[data-label='Gap, points']")
        cells.evaluate_all("(cells, texts) => cells.forEach((cell, i) => (cell.innerHTML = texts[i]))", written)
        for order in (1, -1):
            table.get_by_role("button", name="Gap, points").click()
            first = ["−4", "-3 / 1", "< 0.01", "+8.25", "9.5 1 to 20", "82 70.1 to 90", "100", "1,200"][::order]
            assert [" ".join(text.split()) for text in cells.all_inner_texts()] == [*first, "", ""]


def test_nothing_needs_a_script(browser, report):
    with opened(browser, report, java_script_enabled=False) as page:
        assert page.locator("svg:visible").count() == 3 and page.locator("button, output, input").count() == 0


def test_tab_goes_through_contents_charts_and_buttons_in_their_order(browser, report):
    with opened(browser, report) as page:
        places = []
        for _ in range(200):
            page.keyboard.press("Tab")
            element = "document.activeElement"
            if page.evaluate(f"{element} === document.body"):
                break
            places.append(page.evaluate(f"[{element}.tagName, [...document.querySelectorAll('*')].indexOf({element})]"))
        assert [place for _, place in places] == sorted(place for _, place in places)
        assert {"A", "BUTTON", "FIGURE", "SUMMARY"} <= {tag for tag, _ in places}
