"""The live page in a browser: new results come in without loading it again, and the reader stays where they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, opened_browser
from sample_results import REQUEST, RESULTS, SAMPLES

from fed_unlearn.simulations.live.server import LiveServer
from fed_unlearn.simulations.live.view import RunView

BEGUN = replace(RESULTS, requests=(), relapse=(), history=RESULTS.history[:1], complete=False)
SECOND = replace(RESULTS, requests=(REQUEST, SAMPLES), complete=False)
THIRD = replace(RESULTS, requests=(REQUEST, SAMPLES, replace(SAMPLES, id="r3")))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as browser:
        yield browser


def wait_until(browser: Browser, expression: str) -> None:
    deadline = time.monotonic() + 60
    while not browser.ask(expression):
        assert time.monotonic() < deadline, (expression, browser.console())
        time.sleep(0.1)


def test_the_page_grows_without_being_loaded_again(browser: Browser, tmp_path: Path) -> None:
    server = LiveServer(RunView(tmp_path, "digits"))
    said = "document.querySelector('.live')?.textContent"
    try:
        browser.driver.get(server.address)
        browser.ask("window.marker = 7")
        wait_until(browser, f"{said} === 'running'")
        BEGUN.save(tmp_path)
        wait_until(browser, "document.querySelectorAll('[data-from^=\"history[0]\"]').length > 0")
        server.say("round 12 of 30")
        wait_until(browser, f"{said} === 'running: round 12 of 30'")
        SECOND.save(tmp_path)
        wait_until(browser, "document.querySelectorAll('#summary [data-request]').length === 2")
        browser.ask(
            "(() => { const select = document.querySelector('.filter select'); select.value = 'r2';"
            " select.dispatchEvent(new Event('change')); })()"
        )
        browser.ask("document.getElementById('cost').scrollIntoView({behavior: 'instant'})")
        place = browser.ask("document.getElementById('cost').getBoundingClientRect().top")
        THIRD.save(tmp_path)
        wait_until(browser, "document.querySelectorAll('#summary [data-request]').length === 3")
        assert browser.ask("document.querySelector('.filter select').value") == "r2"
        assert browser.ask("document.querySelector('#summary [data-request=r1]').hasAttribute('data-out')")
        assert not browser.ask("document.querySelector('#summary [data-request=r2]').hasAttribute('data-out')")
        assert abs(browser.ask("document.getElementById('cost').getBoundingClientRect().top") - place) < 40
        assert browser.ask("window.marker") == 7
        server.finish("finished; the report is report.html")
        wait_until(browser, f"{said} === 'finished; the report is report.html'")
    finally:
        server.close()
    time.sleep(1)
    assert browser.ask(said) == "finished; the report is report.html"
    assert browser.console() == []


def test_a_lost_connection_is_said_and_mended(browser: Browser, tmp_path: Path) -> None:
    BEGUN.save(tmp_path)
    view = RunView(tmp_path, "digits")
    server = LiveServer(view)
    said = "document.querySelector('.live')?.dataset.state"
    browser.driver.get(server.address)
    wait_until(browser, f"{said} === 'running'")
    server._told.streams.clear()
    server._server.shutdown()
    server._server.server_close()
    server._told.is_over = True  # its streams end as those of a process that is killed, but for the last word
    server._told.end = None
    wait_until(browser, f"{said} === 'lost'")
    again = LiveServer(view, server.port)
    try:
        wait_until(browser, f"{said} === 'running'")
        SECOND.save(tmp_path)
        wait_until(browser, "document.querySelectorAll('#summary [data-request]').length === 2")
    finally:
        again.close()
