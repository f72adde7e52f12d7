"""A headless Chromium that opens pages from files, and what tests ask of them."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = next((name for name in ("chromium", "chromedriver") if shutil.which(name) is None), None)
"""The program that a browser test needs and this machine lacks, if any."""

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-device-scale-factor=1")
_SECONDS = 60.0


class Browser:
    """One page in a browser at a time."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, file: Path, width: int = 1280, *, scripts: bool = True) -> None:
        self.driver.get("about:blank")
        self.tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.tell("Emulation.setEmulatedMedia", media="screen")
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.console()
        self.driver.get(file.absolute().as_uri())

    def tell(self, command: str, **parameters: object) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript; also where the page itself may run none."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def console(self) -> list[str]:
        """Errors and warnings since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def draw_everything(self) -> None:
        """Scroll through the page until every chart is interactive."""
        end = time.monotonic() + _SECONDS
        while self.ask("document.querySelectorAll('figure.chart:not(.mounted)').length") > 0:
            assert time.monotonic() < end, self.ask(
                "[...document.querySelectorAll('figure.chart:not(.mounted)')].map(item => item.dataset.chart)"
            )
            self.ask("document.querySelector('figure.chart:not(.mounted)')?.scrollIntoView()")
            time.sleep(0.05)

    def hovered(self, chart: str, most: int) -> list[dict[str, str]]:
        """What a chart tells of its first marks, each hovered over; a mark under others says nothing."""
        figure = f"document.querySelector('figure[data-chart={chart}]')"
        self.ask(f"{figure}.scrollIntoView({{block: 'center'}})")
        place = (
            f"[...{figure}.querySelectorAll('.mark-symbol.role-mark path')].map(item => item.getBoundingClientRect())"
            ".map(box => [box.x + box.width / 2, box.y + box.height / 2]).filter(place => place[1] > 60 && place[1] < 890)"
        )
        told = []
        for across, down in self.ask(place)[:most]:
            self.tell("Input.dispatchMouseEvent", type="mouseMoved", x=across, y=down)
            time.sleep(0.05)
            rows = "[...document.querySelectorAll('#vg-tooltip-element.visible tr')]"
            told.append(dict(self.ask(f"{rows}.map(row => [...row.cells].map(cell => cell.textContent.trim()))")))
        return [entry for entry in told if entry]

    def print_media(self) -> None:
        self.tell("Emulation.setEmulatedMedia", media="print")

    def pdf(self) -> bytes:
        return base64.b64decode(self.tell("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def opened_browser() -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
