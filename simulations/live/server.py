"""Serves the page of a run that goes on, on 127.0.0.1 alone, with server-sent events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.live.connections import BoundedHandler, BoundedServer
from fed_unlearn.simulations.live.view import RunView, Shown
from fed_unlearn.text import printable

ADDRESS = "127.0.0.1"

_POLL_SECONDS, _HEARTBEAT_SECONDS, _SOCKET_SECONDS, _LAST_WORD_SECONDS = 0.25, 10.0, 30.0, 5.0
_PORT_OF_HTTP = 80
_RETRY_MILLISECONDS = 2000
_MOST_STREAMS, _LONGEST_TEXT = 32, 300
_PAGES, _EVENTS, _ICON = ("/", "/report.html"), "/events", "/favicon.ico"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class _Told:
    """What the run has said last. The run writes it; streams read it."""

    progress: str = ""
    end: str | None = None
    last: Shown | None = None
    is_over: bool = False
    streams: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class LiveServer:
    """The server of one run's page, in threads of this process.

    Parameters
    ----------
    view : RunView
        What the page shows.
    port : int or None
        The port; a free one where None.

    Raises
    ------
    InvalidParameterError
        If the port cannot be used.
    """

    def __init__(self, view: RunView, port: int | None = None) -> None:
        self._view, self._told = view, _Told()
        try:
            self._server = BoundedServer((ADDRESS, port or 0), partial(_Handler, view=view, told=self._told))
        except OSError as error:
            raise InvalidParameterError(
                f"--live-port {port}: {error.strerror}; choose another port, or leave it out for a free one"
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="live", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.port}/"

    def say(self, text: str) -> None:
        """Show a line of progress."""
        self._told.progress = printable(text, _LONGEST_TEXT)

    def finish(self, text: str) -> None:
        """Say that the run is over. The page stays up until :meth:`close`."""
        self._told.end = printable(text, _LONGEST_TEXT)

    def close(self, text: str = "the run is over", *, draws: bool = True) -> None:
        """Give every page the last results, and stop. Where nobody looks it takes no time.

        Where somebody does, the page is drawn once more. Browsers then have a few seconds to take it.

        Parameters
        ----------
        text : str
            How the run ended, if :meth:`finish` did not say it.
        draws : bool
            Whether the page is drawn once more.
        """
        if draws and self._told.streams:
            self._told.last = self._view.shown(now=True)
        self._told.end = self._told.end or text
        self._told.is_over = True
        deadline = time.monotonic() + _LAST_WORD_SECONDS
        while self._told.streams and time.monotonic() < deadline:
            time.sleep(0.02)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_LAST_WORD_SECONDS)


class _Handler(BoundedHandler):
    """Answers one connection."""

    server_version, sys_version = "fed-unlearn", ""
    timeout = _SOCKET_SECONDS

    def __init__(self, *connection: Any, view: RunView, told: _Told) -> None:
        self._view, self._told = view, told
        super().__init__(*connection)  # it answers, too

    def do_GET(self) -> None:  # noqa: N802
        """Answer with the page or the events."""
        if self._is_refused():
            return
        place = self._place()
        if place.path in _PAGES:
            self._send_page()
        elif place.path == _ICON:
            self._begin(HTTPStatus.NO_CONTENT, "image/x-icon")
        elif place.path == _EVENTS:
            self._send_events(parse_qs(place.query).get("from", [""])[0])
        else:
            self._send_text(HTTPStatus.NOT_FOUND, "there is / and nothing else")

    def do_HEAD(self) -> None:  # noqa: N802
        """Answer as to GET, without the content."""
        if self._is_refused():
            return
        if self._place().path in (*_PAGES, _EVENTS):
            self._begin(HTTPStatus.OK, "text/html; charset=utf-8")
        else:
            self._send_text(HTTPStatus.NOT_FOUND, "there is / and nothing else")

    def do_POST(self) -> None:  # noqa: N802
        """Refuse what is neither GET nor HEAD."""
        self._send_text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are answered", Allow="GET, HEAD")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on the terminal, which shows the run."""

    def _place(self) -> SplitResult:
        """What is asked for; a place that there is not, where it is no address."""
        try:
            return urlsplit(self.path)
        except ValueError:  # such as //[
            return SplitResult("", "", self.path, "", "")

    def _is_refused(self) -> bool:
        """Refuse a request that names another host: a page of elsewhere may have made its name point here."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) == 1 and hosts[0].strip().lower() in _hosts(self.server.server_port):
            return False
        self._send_text(HTTPStatus.MISDIRECTED_REQUEST, f"this is {ADDRESS} and no other host")
        return True

    def _begin(self, status: HTTPStatus, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_text(self, status: HTTPStatus, text: str, **headers: str) -> None:
        self._begin(status, "text/plain; charset=utf-8", **headers)
        if self.command != "HEAD":
            self.wfile.write(f"{text}\n".encode())

    def _send_page(self) -> None:
        shown = self._view.shown()
        meta = f'<head>\n<meta name="live-version" content="{shown.version}">'
        body = shown.page.replace("<head>", meta, 1).encode()
        self._begin(HTTPStatus.OK, "text/html; charset=utf-8", **{"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_events(self, version: str) -> None:
        with self._stream() as is_admitted:
            if not is_admitted:
                self._send_text(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} pages are open; close one")
                return
            self._begin(HTTPStatus.OK, "text/event-stream; charset=utf-8")
            with suppress(OSError):  # the browser is gone
                self._follow(self.headers.get("Last-Event-ID") or version)

    @contextmanager
    def _stream(self) -> Iterator[bool]:
        streams, own = self._told.streams, id(self)
        with self._told.lock:
            is_admitted = len(streams) < _MOST_STREAMS and not self._told.is_over
            if is_admitted:
                streams.add(own)
        try:
            yield is_admitted
        finally:
            streams.discard(own)

    def _follow(self, version: str) -> None:
        """Send what changes, until the server closes."""
        told = self._told
        self._write(f"retry: {_RETRY_MILLISECONDS}\n\n")
        progress, end, heard = "", None, time.monotonic()
        while True:
            is_over = told.is_over
            shown = told.last if is_over else self._news(version)
            if shown is not None and shown.version != version:
                version = shown.version
                self._event("report", {"main": shown.main}, version)
                heard = time.monotonic()
            if told.progress != progress and told.end is None:
                progress = told.progress
                self._event("progress", {"text": progress})
                heard = time.monotonic()
            if told.end is not None and (told.end != end or is_over):
                end = told.end
                self._event("end", {"text": end, "closes": is_over})
                heard = time.monotonic()
            if is_over:
                return
            if time.monotonic() - heard > _HEARTBEAT_SECONDS:
                self._write(": alive\n\n")
                heard = time.monotonic()
            time.sleep(_POLL_SECONDS)

    def _news(self, version: str) -> Shown | None:
        """The page, where the results are others than those of a version."""
        return self._view.shown() if self._view.version() != version else None

    def _event(self, name: str, data: dict[str, object], version: str | None = None) -> None:
        known = "" if version is None else f"id: {version}\n"
        self._write(f"event: {name}\n{known}data: {json.dumps(data)}\n\n")

    def _write(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()


def _hosts(port: int) -> set[str]:
    """How a browser names the server of a port; that of HTTP it leaves out."""
    names = {ADDRESS, "localhost"}
    return {f"{name}:{port}" for name in names} | (names if port == _PORT_OF_HTTP else set())
