"""Connections that ask for nothing take a bounded number of threads and files, and are dropped."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sample_results import RESULTS

from fed_unlearn.simulations.live import connections
from fed_unlearn.simulations.live import view as view_module
from fed_unlearn.simulations.live.server import ADDRESS, LiveServer
from fed_unlearn.simulations.live.view import RunView


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)
    RESULTS.save(tmp_path)
    server = LiveServer(RunView(tmp_path, "digits"))
    yield server
    server.close()


@pytest.fixture
def connected(server: LiveServer) -> Iterator[Callable[[], socket.socket]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection((ADDRESS, server.port), timeout=20))


def everything_from(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    try:
        while received := connection.recv(65536):
            found += received
    except ConnectionResetError:  # it was closed with something unread
        pass
    return found


def status_of_page(server: LiveServer) -> int:
    """As to a browser; the page is not drawn."""
    connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=20)
    connection.request("HEAD", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_flood_of_silent_connections_is_bounded_and_ends(
    server: LiveServer, connected: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 3.0)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    flood = [connected() for _ in range(100)]
    turned_away = [connection for connection in flood[8:] if b" 503 " in everything_from(connection)]
    assert len(turned_away) == 92
    assert threading.active_count() <= threads + 8
    assert len(os.listdir("/proc/self/fd")) <= files + 100 + 8  # the test's own ends, and the server's
    assert [everything_from(connection) for connection in flood[:8]] == [b""] * 8
    wait_for(lambda: threading.active_count() == threads)
    assert len(os.listdir("/proc/self/fd")) == files + 100
    assert status_of_page(server) == 200


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\nX: 1\r\n"])
def test_a_request_that_comes_byte_by_byte_is_dropped(
    server: LiveServer, connected: Callable[[], socket.socket], sent: bytes
) -> None:
    connection, started = connected(), time.monotonic()
    connection.sendall(sent)
    connection.settimeout(0.05)
    received: bytes | None = None
    while received is None:
        try:
            connection.sendall(b"x")
            received = connection.recv(100)
        except TimeoutError:
            assert time.monotonic() - started < 20
        except (BrokenPipeError, ConnectionResetError):
            received = b""
    assert received == b"" and 0.9 < time.monotonic() - started < 10
    wait_for(lambda: status_of_page(server) == 200)


def test_connections_that_follow_the_run_are_not_dropped(
    server: LiveServer, connected: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "render_report", lambda *_, **__: "<main></main>")
    stream = connected()
    stream.sendall(f"GET /events HTTP/1.1\r\nHost: {ADDRESS}:{server.port}\r\n\r\n".encode())
    found = b""
    while b"event: report" not in found:
        found += stream.recv(65536)
    time.sleep(1.5)
    server.say("round 1 of 4")
    while b"round 1 of 4" not in found:
        received = stream.recv(65536)
        assert received
        found += received


def test_streams_count_as_connections(server: LiveServer, connected: Callable[[], socket.socket]) -> None:
    for _ in range(8):
        stream = connected()
        stream.sendall(f"GET /events HTTP/1.1\r\nHost: {ADDRESS}:{server.port}\r\n\r\n".encode())
        assert b" 200 " in stream.recv(100)
    assert status_of_page(server) == 503


def test_the_end_does_not_wait_for_who_says_nothing(
    server: LiveServer, connected: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 60.0)
    threads = threading.active_count()
    silent = [connected() for _ in range(4)]
    wait_for(lambda: threading.active_count() == threads + 4)
    started = time.monotonic()
    server.close()
    assert [everything_from(connection) for connection in silent] == [b""] * 4
    assert time.monotonic() - started < 3
    wait_for(lambda: threading.active_count() == threads - 1)  # the server's own is over, too
