"""Figures of a server that stays, for Prometheus, on 127.0.0.1 alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.staying.live_status import StatusWriter

logger = logging.getLogger("fed_unlearn.strategies")


class _Figures:
    """What Prometheus reads. Each reading opens the ledger anew, since it comes from another thread."""

    def __init__(self, status: StatusWriter, ledger: Path, key: Path) -> None:
        self._status, self._ledger, self._key = status, ledger, key

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        live = self._status.status
        yield GaugeMetricFamily("fed_unlearn_clients_connected", "Clients that take part", len(live.connected))
        yield GaugeMetricFamily("fed_unlearn_clients_left_out", "Clients that may not take part", len(live.left_out))
        yield GaugeMetricFamily(
            "fed_unlearn_problem", "1 where the last turn went wrong", float(live.problem is not None)
        )
        yield CounterMetricFamily("fed_unlearn_messages", "Messages sent to clients", live.messages)
        ledger = Ledger(self._ledger, create=False, key=self._key)
        try:
            statuses = [entry.status for entry in ledger.entries()]
            owed = sum(len(entry.owed) for entry in ledger.entries())
        finally:
            ledger.close()
        requests = GaugeMetricFamily("fed_unlearn_requests", "Requests by status", labels=["status"])
        for status in Status:
            requests.add_metric([status.value], statuses.count(status))
        yield requests
        yield GaugeMetricFamily("fed_unlearn_tombstones_owed", "Tombstones that clients still owe", owed)


@contextmanager
def metrics_endpoint(status: StatusWriter, ledger: Ledger, port: int | None) -> Iterator[None]:
    """Offer figures on a port of 127.0.0.1, for the time of a ``with`` block.

    Parameters
    ----------
    status : StatusWriter
        What the server is doing.
    ledger : Ledger
        The server's ledger.
    port : int or None
        The port. None for no endpoint.

    Raises
    ------
    FedUnlearnError
        If prometheus-client is not installed, or the port cannot be had.
    """
    if port is None:
        yield
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise FedUnlearnError(
            f"metrics port {port}: the package prometheus-client is not installed; pip install 'fed-unlearn[metrics]'"
        ) from error
    registry = CollectorRegistry()
    registry.register(_Figures(status, ledger.path, ledger.key_file))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise FedUnlearnError(f"metrics port {port}: {error.strerror}; give another one") from error
    logger.info("figures for Prometheus: http://127.0.0.1:%d/metrics", port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
