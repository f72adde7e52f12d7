"""What a reader needs who uses a keyboard, hears the page, or sees colours poorly."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from page_reader import Page, read
from view_results import not_all_committed

from fed_unlearn.simulations.report.page import render, render_report

STYLE = (Path(render.__file__).parent / "page.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", STYLE))
TEXT_ON = [
    *((name, "paper") for name in ("ink", "muted", "link", "good", "bad", "open")),
    *((name, f"{name}-soft") for name in ("good", "bad", "open")),
    *(("ink", f"{name}-soft") for name in ("good", "bad", "open")),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return read(render_report(not_all_committed(), tmp_path_factory.mktemp("run")))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("text", "ground"), TEXT_ON)
def test_text_has_the_contrast_of_wcag_aa(text: str, ground: str) -> None:
    assert contrast(COLOURS[text], COLOURS[ground]) >= 4.5


def test_text_has_no_colours_but_these_and_the_border_of_a_field_is_seen() -> None:
    assert set(re.findall(r"[{; ]color: (#[0-9a-f]+)", STYLE)) == set()
    (border,) = re.findall(r"select {[^}]*border: 1px solid (#[0-9a-f]{6})", STYLE)
    assert contrast(border, COLOURS["paper"]) >= 3


def test_the_language_the_title_and_the_order_of_headings_are_given(page: Page) -> None:
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("title")[0].text.strip()
    levels = [int(item.tag[1]) for item in page.elements if re.fullmatch("h[1-6]", item.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_every_field_has_a_label_and_what_scrolls_can_be_reached_by_keyboard(page: Page) -> None:
    assert all(item.within(lambda one: one.tag == "label") for item in page.all("select"))
    scrolling = [item for item in page.elements if item.attributes.get("class") == "scroll"]
    assert scrolling
    for item in scrolling:
        assert item.attributes["tabindex"] == "0" and item.attributes["aria-label"]


def test_nothing_moves_by_itself_and_focus_is_seen() -> None:
    assert not re.search(r"animation|transition|scroll-behavior", STYLE)
    assert re.search(
        r"a:focus-visible, summary:focus-visible, select:focus-visible, .scroll:focus-visible { outline: 2px", STYLE
    )
