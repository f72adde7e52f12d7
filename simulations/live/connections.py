"""A server of HTTP whose connections are few, and are dropped where nothing is asked for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST_CONNECTIONS = 64
"""Connections that are open at once. Each has a thread and a file."""

REQUEST_SECONDS = 10.0
"""How long a request may take to arrive as a whole, however its bytes are spread."""

_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\ntoo many connections; close some\n"


class BoundedServer(ThreadingHTTPServer):
    """Answers each connection in a thread of its own, as long as there are not too many.

    A connection over :data:`MOST_CONNECTIONS` is closed at once. One whose request has not arrived after
    :data:`REQUEST_SECONDS` is dropped. Handlers are of :class:`BoundedHandler`.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Callable[..., BoundedHandler]) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._waiting: dict[socket.socket, float] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, or close it where too many are open."""
        with self._lock:
            is_admitted = len(self._open) < MOST_CONNECTIONS
            if is_admitted:
                self._open.add(request)
                self._waiting[request] = time.monotonic() + REQUEST_SECONDS
        if is_admitted:
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, which was answered or not."""
        with self._lock:
            self._open.discard(request)
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Drop the connections whose request takes too long. It is called several times a second."""
        now = time.monotonic()
        self._drop([request for request, deadline in self._all_waiting() if deadline < now])

    def server_close(self) -> None:
        """Close the server, and the connections that have asked for nothing."""
        super().server_close()
        self._drop([request for request, _ in self._all_waiting()])

    def has_asked(self, request: socket.socket) -> bool:
        """Take note that a request has arrived. False if its connection was dropped before."""
        with self._lock:
            return self._waiting.pop(request, None) is not None

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away in the middle of an answer is nothing to tell."""

    def _all_waiting(self) -> list[tuple[socket.socket, float]]:
        with self._lock:
            return list(self._waiting.items())

    def _drop(self, requests: list[socket.socket]) -> None:
        """End the reading of connections. Their threads close them."""
        for request in requests:
            if self.has_asked(request):
                with suppress(OSError):  # the client was faster
                    request.shutdown(socket.SHUT_RDWR)


class BoundedHandler(BaseHTTPRequestHandler):
    """Tells a :class:`BoundedServer` when the request has arrived."""

    server: BoundedServer

    def parse_request(self) -> bool:
        """Read the headers of a request; False if there is nothing to answer."""
        return super().parse_request() and self.server.has_asked(self.connection)
