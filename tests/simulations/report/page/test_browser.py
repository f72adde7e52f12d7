"""Reports of real runs and of made-up ones in a browser: narrow and wide, printed, and without scripts."""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from browser import MISSING, Browser, opened_browser
from chart_numbers import check_charts
from image_files import write_patterns
from page_numbers import check_counts, check_folder, check_numbers, check_places, check_texts, is_rounding
from page_reader import read
from view_results import hostile, many, not_all_committed

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report.page import FILE_NAME, SECTIONS, write_report
from fed_unlearn.simulations.run.results import RunResults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed"),
]

RUNS = {
    "digits": ["digits", "--set", "timeline.0.train.rounds=12"],
    "digits with the oracle": ["digits-demo", "--set", "timeline.0.train.rounds=4", "--oracle"],
    "digits-continual": ["digits-continual"],
    "digits-avalanche": ["digits-avalanche"],
    "failed and held at the end": [
        "digits-three", "--set", "timeline.0.train.rounds=4", "--set", "unlearning.hold.client=0.5",
        "--set", "unlearning.parameters.instance-wise.max-steps=1",
        "--set", "unlearning.parameters.instance-wise.consolidation-steps=1",
    ],
}  # fmt: skip
OF_IMAGES = {
    "cifar10": {
        "model.width": "0.125", "training.batch-size": "10", "data.test-fraction": "0.2", "timeline.0.train.rounds": "4",
    },
    "faces": {
        "data.image-size": "[28, 24]", "clients.count": "2", "timeline.0.train.rounds": "2", "timeline.4.forget.client": "1",
        "unlearning.repair-rounds": "1", "unlearning.max-attempts": "1",
        "unlearning.parameters.instance-wise.max-steps": "5",
        "unlearning.parameters.instance-wise.consolidation-steps": "3",
    },
}  # fmt: skip
MADE = {"failed and held": not_all_committed(), "hostile": hostile(), "thirty requests": many(30)}
MOST_BYTES = 3_000_000
SHEETS_OF_A_RUN, SHEETS_OF_A_REQUEST, SHEETS_OF_EIGHT = 12, 2, 22
PRINTED_WIDTH = 710
"""Pixels of CSS between the margins of a sheet of 8.5 inches."""

UNSHORTENED = [name for name in (*RUNS, *OF_IMAGES, *MADE) if name != "hostile"]
"""Reports whose names are short enough to stand whole in tooltips."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=[*RUNS, *OF_IMAGES, *MADE])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run, as it ends, or of results that were made up."""
    folder = tmp_path_factory.mktemp("reports") / "run"
    if request.param in MADE:
        folder.mkdir()
        MADE[request.param].save(folder)
        return write_report(folder)
    order = RUNS[request.param] if request.param in RUNS else ordered_on_images(request.param, folder.parent)
    run_command(["run", *order, "--out", str(folder)])
    results = RunResults.load(folder)
    statuses = {asked.status for asked in results.requests}
    assert results.complete == ("held" not in statuses)
    assert not request.param.startswith("failed") or statuses == {"committed", "failed", "held"}
    if request.param == "faces":
        run_command(["report", str(folder), "--images"])
    assert ("--oracle" in order) == any(asked.oracle is not None for asked in results.requests)
    return folder / FILE_NAME


def ordered_on_images(scenario: str, folder: Path) -> list[str]:
    """A scenario for photographs, cut down, on small images that are made here."""
    is_colour = scenario == "cifar10"
    size = (10, 12, 32, 32) if is_colour else (18, 10, 28, 24)
    images = write_patterns(folder / "images", *size, colour=is_colour)
    changes = {"data.dataset": f"folder:{images}", "run.threads": "1", **OF_IMAGES[scenario]}
    return [scenario, *chain.from_iterable(("--set", f"{key}={value}") for key, value in changes.items())]


def test_a_page_has_less_than_three_megabytes(report: Path) -> None:
    assert report.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("width", [360, 1280])
def test_no_error_all_sections_and_no_overflow(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width)
    browser.draw_everything()
    shown = browser.ask("[...document.querySelectorAll('main > section')].map(item => item.id)")
    assert [section for section in shown if section != "examples"] == list(SECTIONS)
    assert ("examples" in shown) == (json.loads((report.parent / "results.json").read_text())["scenario"] == "faces")
    browser.ask("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.title") != "owned"
    unequal = "[...document.querySelectorAll('figure.chart')].filter(item => item.querySelector('.interactive').ariaLabel !== item.querySelector('img').alt)"
    assert browser.ask(f"{unequal}.length") == 0
    assert browser.console() == []


def test_all_can_be_read_without_scripts(browser: Browser, report: Path) -> None:
    browser.open(report, scripts=False)
    charts = browser.ask("document.querySelectorAll('figure.chart').length")
    shown = "[...document.querySelectorAll('figure.chart img')].filter(item => item.naturalWidth > 0 && item.checkVisibility())"
    assert browser.ask(f"{shown}.length") == charts
    assert browser.ask("document.querySelectorAll('figure.mounted').length") == 0
    assert browser.ask("document.querySelector('.filter').checkVisibility()") is False
    assert browser.ask("[...document.querySelectorAll('main > section')].every(item => item.checkVisibility())")
    assert browser.console() == []


def test_drawings_fit_a_phone_without_scripts_unless_there_are_very_many(browser: Browser, report: Path) -> None:
    browser.open(report, 360, scripts=False)
    overflowing = browser.ask(
        "[...document.querySelectorAll('.still')].filter(item => item.scrollWidth > item.clientWidth).length"
    )
    is_large = len(json.loads((report.parent / "results.json").read_text())["requests"]) > 20
    assert (overflowing > 0) == is_large
    assert (browser.ask("document.querySelectorAll('picture source').length") == 0) == is_large


def test_print_shows_drawings_and_everything_that_is_folded(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw_everything()
    browser.print_media()
    visible = "filter(item => item.checkVisibility({contentVisibilityAuto: true})).length"
    charts = browser.ask("document.querySelectorAll('figure.chart').length")
    assert browser.ask(f"[...document.querySelectorAll('figure.chart .interactive')].{visible}") == 0
    assert browser.ask(f"[...document.querySelectorAll('figure.chart img')].{visible}") == charts
    assert browser.ask(f"[...document.querySelectorAll('nav, .filter')].{visible}") == 0
    folded = browser.ask("document.querySelectorAll('details table').length")
    heights = "[...document.querySelectorAll('details table')].filter(item => item.getBoundingClientRect().height > 0)"
    assert browser.ask(f"{heights}.length") == folded


def test_print_cuts_nothing_and_has_few_sheets(browser: Browser, report: Path) -> None:
    browser.open(report, PRINTED_WIDTH)
    browser.draw_everything()
    browser.print_media()
    cut = browser.ask(
        "[...document.querySelectorAll('main *')].filter(item => item.checkVisibility() && !item.closest('.sr')"
        f" && (item.getBoundingClientRect().right > {PRINTED_WIDTH} + 1 || item.getBoundingClientRect().left < -1))"
        ".map(item => [item.tagName, item.className, item.textContent.slice(0, 60)].join(' '))"
    )
    assert cut == []
    inside = "item.matches('.scroll, .still, td, th') && item.scrollWidth > item.clientWidth + 1"
    assert browser.ask(f"[...document.querySelectorAll('main *')].filter(item => {inside}).length") == 0
    sheets = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    results = json.loads((report.parent / "results.json").read_text())
    assert 0 < sheets <= SHEETS_OF_A_RUN + SHEETS_OF_A_REQUEST * len(results["requests"])
    assert len(results["requests"]) != 8 or sheets <= SHEETS_OF_EIGHT


@pytest.mark.parametrize("report", ["faces"], indirect=True, scope="module")
def test_the_examples_are_images_that_are_seen(browser: Browser, report: Path) -> None:
    results = json.loads((report.parent / "results.json").read_text())
    browser.open(report)
    assert browser.ask(
        "[...document.querySelectorAll('#examples [data-request]')].map(item => item.dataset.request)"
    ) == [item["id"] for item in results["requests"] if item["scope"] == "class"]
    assert browser.ask("[...document.querySelectorAll('#examples img')].every(item => item.naturalWidth === 24)")
    assert browser.ask("document.querySelectorAll('#examples img').length") >= 2


def test_a_table_that_goes_on_has_a_shade_at_its_edge(browser: Browser, report: Path) -> None:
    browser.open(report, 360)
    browser.ask("document.querySelectorAll('details').forEach(item => item.open = true)")
    scrolling = "[...document.querySelectorAll('.scroll')].filter(item => item.scrollWidth > item.clientWidth)"
    assert browser.ask(f"{scrolling}.every(item => getComputedStyle(item).backgroundImage.includes('gradient'))")
    captions = f"{scrolling}.flatMap(item => [...item.querySelectorAll('caption:not(.sr)')])"
    assert browser.ask(f"{captions}.filter(item => item.getBoundingClientRect().width > 360 - 32).length") == 0


def test_the_filter_shows_one_request_by_keyboard(browser: Browser, report: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    browser.draw_everything()
    shown = "[...document.querySelectorAll('#summary [data-request]')].filter(item => item.checkVisibility()).length"
    total = browser.ask(shown)
    assert total == len(json.loads((report.parent / "results.json").read_text())["requests"])
    if total == 1:
        assert browser.ask("document.querySelector('.filter').checkVisibility()") is False
        return
    browser.driver.find_element(By.CSS_SELECTOR, ".filter select").send_keys(Keys.ARROW_DOWN)
    assert browser.ask(shown) == 1
    chosen = browser.ask("document.querySelector('.filter select').value")
    seen = browser.ask(
        "[...document.querySelectorAll('[data-request]')].filter(item => item.checkVisibility())"
        ".map(item => item.dataset.request)"
    )
    assert set(seen) == {chosen}
    browser.driver.find_element(By.CSS_SELECTOR, ".filter select").send_keys(Keys.HOME)
    assert browser.ask(shown) == total


@pytest.mark.parametrize("scripts", [False, True], ids=["file", "scripts have run"])
def test_every_number_is_that_of_results_json(browser: Browser, report: Path, scripts: bool) -> None:
    results = json.loads((report.parent / "results.json").read_text())
    html = report.read_text()
    if scripts:
        browser.open(report)
        browser.draw_everything()
        html = browser.ask("document.documentElement.outerHTML")
    page = read(html)
    assert check_numbers(results, page) > 5
    check_counts(results, page)
    check_places(results, page)
    if results["engine"] == "inprocess":  # else a text is hostile, and is escaped
        check_texts(results, page)
        assert page.loose_numbers() == []
    if (report.parent / "scenario.toml").is_file():
        check_folder(report.parent, page)
    if not scripts and results["engine"] == "inprocess":
        assert "timeline" in check_charts(results, page)


@pytest.mark.parametrize("report", UNSHORTENED, indirect=True, scope="module")
def test_hovering_tells_the_numbers_of_results_json(browser: Browser, report: Path) -> None:
    results = json.loads((report.parent / "results.json").read_text())
    browser.open(report)
    browser.draw_everything()
    told = browser.hovered("requests", 12)
    assert len(told) >= 4
    for entry in told:
        known = next(item for item in results["requests"] if item["id"] == entry["request"])
        values = known[entry["model"]].values()
        assert any(isinstance(value, float) and is_rounding(entry["accuracy"], value) for value in values)
        ends = known[entry["model"]].get("intervals", {}).values()
        assert entry["interval"] == "none" or any(
            all(map(is_rounding, entry["interval"].split(" to "), both)) for both in ends
        )


def test_what_is_replaced_is_mounted_again(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.draw_everything()
    browser.ask("const main = document.querySelector('main'); const kept = main.cloneNode(true);"
                "kept.querySelectorAll('.mounted').forEach(item => { item.classList.remove('mounted');"
                "item.querySelector('.interactive').replaceChildren(); });"
                "main.replaceChildren(...kept.children); window.mountReport();")  # fmt: skip
    browser.draw_everything()
    assert browser.ask("document.querySelectorAll('figure.chart .interactive svg').length") == browser.ask(
        "document.querySelectorAll('figure.chart').length"
    )
    assert browser.console() == []
