"""`fed-unlearn serve --live` of an app on a real SuperLink: its page is read while its ledger grows."""

from __future__ import annotations

import http.client
import json
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployed import deployed, eventually
from pages import block

SERVED = re.compile(r"^    strategy\.start\(.*?^    print\(.*?$", re.MULTILINE | re.DOTALL)


class Page:
    """A browser's view of a page: what its events said so far."""

    def __init__(self, address: str) -> None:
        self.drawn: list[str] = []
        self.progress: list[str] = []
        self.end: dict[str, object] | None = None
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        self._connection.request("GET", "/events")
        name = ""
        for raw in self._connection.getresponse():
            key, _, value = raw.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                self._take(name, json.loads(value))

    def _take(self, name: str, data: dict[str, object]) -> None:
        if name == "report":
            self.drawn.append(str(data["main"]))
        elif name == "progress":
            self.progress.append(str(data["text"]))
        else:
            self.end = data

    @property
    def last(self) -> str:
        return self.drawn[-1] if self.drawn else ""

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()


def app_that_stays(folder: Path) -> str:
    """The app of the guide, whose server stays."""
    folder.mkdir()
    for name in ("pyproject.toml", "server_app.py", "client_app.py"):
        (folder / name).write_text(block("flower.md", f"# {name}"))
    server = (folder / "server_app.py").read_text()
    stays = "    strategy.serve(grid, [Train(rounds=3)], initial_arrays=ArrayRecord(model.state_dict()))"
    changed, count = SERVED.subn(stays, server.replace("ContinualUnlearning, Gate", "ContinualUnlearning, Gate, Train"))
    assert count == 1
    (folder / "server_app.py").write_text(changed)
    return str(folder)


@pytest.mark.slow
def test_the_page_grows_with_the_ledger_and_ends_with_the_server(tmp_path: Path) -> None:
    app = app_that_stays(tmp_path / "app")
    with deployed(tmp_path / "federation", 2) as federation:
        for number in range(2):
            federation.start_node(number)
        ledger = str(federation.folder / "ledger.db")
        serve = federation.start("serve", "fed-unlearn", "serve", app, "--ledger", ledger, "--live")
        found = re.compile(r"^live: (http://127\.0\.0\.1:\d+/)$", re.MULTILINE)
        eventually(lambda: found.search(federation.log_of("serve")), 60, "the address is printed")
        page = Page(found.findall(federation.log_of("serve"))[0])

        eventually(lambda: 'data-from="training.rounds"' in page.last, 300, "the training is on the page", 1)
        before = len(page.drawn)
        assert "requests[0]" not in page.last

        command = ("fed-unlearn", "request", "add", ledger, "--class", "5", "--id", "next-week")
        federation.run(*command)
        eventually(lambda: 'data-from="requests[0].after.forget_accuracy"' in page.last, 300, "its end is there", 1)
        assert len(page.drawn) > before and "next-week" in page.last
        entry = json.loads(federation.run("fed-unlearn", "request", "list", ledger, "--json").stdout)[0]
        assert (entry["id"], entry["status"]) == ("next-week", "committed")
        assert page.end is None and serve.poll() is None

        federation.run("fed-unlearn", "serve", "--stop", ledger)
        assert serve.wait(60) == 0
        eventually(lambda: page.is_over, 30, "the stream has ended")
        assert page.end == {"text": "the run is over", "closes": True}
        assert "next-week" in page.last
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection(urlsplit(found.findall(federation.log_of("serve"))[0]).netloc).connect()
