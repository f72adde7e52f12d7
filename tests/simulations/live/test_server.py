"""The page of a run that goes on: what is served, to whom, and when it changes."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import RESULTS

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.cli import BAD_INPUT, run_command
from fed_unlearn.simulations.live import server as server_module
from fed_unlearn.simulations.live import view as view_module
from fed_unlearn.simulations.live.server import ADDRESS, LiveServer
from fed_unlearn.simulations.live.view import RunView

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")
BEGUN = replace(RESULTS, requests=(), relapse=(), history=RESULTS.history[:1], complete=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BEGUN.save(tmp_path)
    (tmp_path / "secret.txt").write_text("of the run folder")
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr(view_module, "_LEAST_PAUSE", 0.0)
    monkeypatch.setattr(view_module, "_SHARE_OF_TIME", 0.0)
    server = LiveServer(RunView(folder, "digits"))
    yield server
    server.close()


def answer(server: LiveServer, method: str, path: str, host: str | None = None) -> tuple[int, str, dict[str, str]]:
    """Status, content and headers of one request."""
    connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"{ADDRESS}:{server.port}")
    connection.endheaders()
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, content, dict(response.getheaders())


class Events:
    """A browser's reading of the events, in a thread."""

    def __init__(self, server: LiveServer, **headers: str) -> None:
        self.connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
        self.connection.request("GET", "/events", headers=headers)
        self.response = self.connection.getresponse()
        self.found: list[dict[str, str]] = []
        self.is_closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        event: dict[str, str] = {}
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                self.found.append(event)
                event = {}
        self.is_closed = True

    def wait_for(self, name: str, number: int = 1) -> list[dict[str, str]]:
        deadline = time.monotonic() + 30
        while len(found := [item for item in self.found if item.get("event") == name]) < number:
            assert time.monotonic() < deadline, self.found
            time.sleep(0.02)
        return found


def test_the_page_is_the_report_of_the_folder(server: LiveServer) -> None:
    status, page, headers = answer(server, "GET", "/")
    assert status == 200
    assert 'data-from="history[0].test_accuracy"' in page and "new EventSource" in page
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert answer(server, "GET", "/report.html")[1] == page
    status, content, headers = answer(server, "HEAD", "/")
    assert (status, content) == (200, "")
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_change_arrives_without_a_new_page(server: LiveServer, folder: Path) -> None:
    events = Events(server)
    assert events.response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    first = events.wait_for("report")[-1]
    assert "requests[0]" not in first["data"]
    RESULTS.save(folder)
    second = events.wait_for("report", 2)[-1]
    assert second["id"] != first["id"]
    main = json.loads(second["data"])["main"]
    assert 'data-from="requests[0].after.forget_accuracy"' in main
    assert "<main" not in main and "<script>" not in main
    assert events.found[0] == {"retry": "2000"}
    seen = Events(server, **{"Last-Event-ID": second["id"]})
    server.say("round 12 of 30")
    assert json.loads(seen.wait_for("progress")[0]["data"]) == {"text": "round 12 of 30"}
    assert not [item for item in seen.found if item.get("event") == "report"]  # a browser that has it is not sent it


def test_the_end_comes_with_the_last_results(server: LiveServer, folder: Path) -> None:
    events = Events(server)
    events.wait_for("report")
    server.say("almost")
    events.wait_for("progress")
    server.finish("finished; the report is somewhere")
    assert json.loads(events.wait_for("end")[0]["data"]) == {
        "text": "finished; the report is somewhere",
        "closes": False,
    }
    RESULTS.save(folder)
    server.close()
    kinds = [item.get("event") for item in events.found]
    deadline = time.monotonic() + 10
    while not events.is_closed and time.monotonic() < deadline:
        time.sleep(0.02)
    kinds = [item.get("event") for item in events.found]
    assert kinds[-2:] == ["report", "end"] and events.is_closed
    assert json.loads(events.found[-1]["data"])["closes"] is True
    assert "requests[0]" in events.found[-2]["data"]


def test_an_interrupted_run_says_so_and_draws_nothing_more(server: LiveServer, folder: Path) -> None:
    events = Events(server)
    events.wait_for("report")
    RESULTS.save(folder)
    server.close("interrupted", draws=False)
    assert json.loads(events.wait_for("end")[0]["data"]) == {"text": "interrupted", "closes": True}
    assert len(events.wait_for("report")) <= 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost:"])
def test_another_host_is_refused(server: LiveServer, host: str) -> None:
    for method in ("GET", "HEAD"):
        for path in ("/", "/events"):
            connection_host = host.format(port=server.port) or " "
            assert answer(server, method, path, connection_host)[0] == 421


def test_localhost_is_not_refused(server: LiveServer) -> None:
    assert answer(server, "HEAD", "/", f"localhost:{server.port}")[0] == 200


def test_the_port_of_http_need_not_be_named() -> None:
    assert server_module._hosts(80) == {"127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80"}
    assert server_module._hosts(8080) == {"127.0.0.1:8080", "localhost:8080"}


def test_two_hosts_are_refused(server: LiveServer) -> None:
    with socket.create_connection((ADDRESS, server.port)) as connection:
        host = f"Host: {ADDRESS}:{server.port}\r\n"
        connection.sendall(f"GET / HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n".encode())
        assert b" 421 " in connection.recv(100)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_but_reading_is_answered(server: LiveServer, method: str) -> None:
    status, content, headers = answer(server, method, "/")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert "<" not in content


@pytest.mark.parametrize(
    "path",
    ["/secret.txt", "/results.json", "/../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd", "/./x", "/events/", "//["],
)
def test_no_file_is_served(server: LiveServer, path: str) -> None:
    status, content, _ = answer(server, "GET", path)
    assert (status, content) == (404, "there is / and nothing else\n")


def test_nobody_else_can_reach_it(server: LiveServer) -> None:
    assert server.address == f"http://127.0.0.1:{server.port}/"
    assert server._server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_one_line_before_anything_is_written(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_command(["run", TINY, "--out", str(out), "--live", "--live-port", str(server.port)]) == BAD_INPUT
    [line] = capsys.readouterr().err.splitlines()
    assert f"--live-port {server.port}: Address already in use; choose another port" in line
    assert not out.exists()


def test_a_port_without_a_page_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", TINY, "--out", str(tmp_path / "run"), "--live-port", "8000"]) == BAD_INPUT
    assert "--live-port 8000 without --live" in capsys.readouterr().err


def test_nothing_is_drawn_where_nobody_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "render_report", lambda *_, **__: pytest.fail("it was drawn"))
    server = LiveServer(RunView(folder, "digits"))
    RESULTS.save(folder)
    server.say("round 1 of 4")
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 2
    with pytest.raises(OSError, match="refused"):
        answer(server, "GET", "/")


def test_drawings_keep_their_distance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        view_module, "render_report", lambda results, *_, **__: drawn.append(results) or "<main></main>"
    )
    view = RunView(folder, "digits")
    first = view.shown()
    RESULTS.save(folder)
    assert view.shown() == first and len(drawn) == 1
    assert view.shown(now=True) != first and len(drawn) == 2
    assert view.shown(now=True) is view.shown() and len(drawn) == 2  # nothing has changed


def test_a_page_that_cannot_be_drawn_leaves_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    view = RunView(folder, "digits")
    before = view.shown().page
    RESULTS.save(folder)
    monkeypatch.setattr(view_module, "render_report", lambda *_, **__: 1 / 0)
    assert view.shown(now=True).page == before
    assert "the live page cannot be drawn" in caplog.text


def test_before_the_first_results_the_page_is_there(tmp_path: Path) -> None:
    page = RunView(tmp_path / "later", "digits").shown().page
    assert "<h1>" in page and "digits" in page and 'id="summary"' in page


def test_too_many_pages_are_refused(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fed_unlearn.simulations.live.server._MOST_STREAMS", 1)
    Events(server).wait_for("report")
    assert answer(server, "GET", "/events")[0] == 503


def test_a_port_that_is_taken_names_itself(server: LiveServer, folder: Path) -> None:
    with pytest.raises(InvalidParameterError, match=f"--live-port {server.port}: Address already in use"):
        LiveServer(RunView(folder, "digits"), server.port)
