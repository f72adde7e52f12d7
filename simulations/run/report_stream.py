"""The forget stream that a run's report shows. It has what the federation forgets, read from the ledger."""

from __future__ import annotations

import logging
import time
from typing import Any

from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.ledger import Ledger, LedgerEvent
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.run.stream import benchmark_of
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import data_of_client

logger = logging.getLogger("fed_unlearn.simulations")

_SECONDS_PER_DAY = 86_400.0


def growing_stream(scenario: Scenario, source: ImageSource, benchmark: Any | None = None) -> Any:
    """Make the benchmark of a scenario, with a forget stream that has no request yet.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        The data of the scenario.
    benchmark : CLScenario, optional
        The benchmark of the scenario. It is made if it is not given.

    Returns
    -------
    fed_unlearn.avalanche.streams.GrowingForgetStream
        The benchmark. It knows which samples each client holds.
    """
    from fed_unlearn.avalanche.streams import GrowingForgetStream
    from fed_unlearn.avalanche.streams.benchmarks import experience_ids

    benchmark = benchmark_of(scenario, source) if benchmark is None else benchmark
    streamed = set().union(*experience_ids(benchmark))
    clients = {
        str(client): [name for name in data_of_client(scenario, source, client).train.ids if name in streamed]
        for client in range(scenario.clients.count)
    }
    return GrowingForgetStream(benchmark, clients=clients, seed=scenario.seed)


def forget_benchmark_of(scenario: Scenario, source: ImageSource, benchmark: Any | None = None) -> Any:
    """Make the Avalanche benchmark of a scenario, with the requests of its timeline as the forget stream.

    Requests are in the order of the timeline, and those of one entry by priority and deadline. Each is assumed to be
    committed. Requests that cannot be served are left out, since the run rejects them. If a run goes otherwise, the
    samples that it draws later differ from those here. The run's report shows what happened (:class:`RequestStream`).

    Parameters
    ----------
    scenario, source, benchmark
        The scenario, its data and its benchmark, as in :func:`growing_stream`.

    Returns
    -------
    fed_unlearn.avalanche.streams.ForgetScenario
        A request's samples are those that the federation forgets, with those that clients draw.
    """
    growing = growing_stream(scenario, source, benchmark)
    for index, steps in scenario.forget_entries():
        requests = [scenario.request_of(step, put_at=0.0, names=source.classes) for step in steps]
        for request in sorted(requests, key=lambda item: (-item.priority, item.deadline or float("inf"))):
            try:
                growing.add(request, max(1, scenario.arrived_at(index)))
            except InvalidRequestError as error:
                logger.warning("the forget stream leaves out request %s: %s", request.id, error)
    return growing.scenario


class RequestStream:
    """Adds requests to a forget stream as they are served, read from a ledger.

    The samples of a request are drawn when the ledger says that its first attempt begins. They are drawn from what
    the clients' stores had left by then. Samples of requests that are open, failed or committed are gone. Samples of
    requests that were withdrawn or rejected are there. The same ledger gives the same stream.

    Two kinds of requests are not exact: requests for sample ids that have not arrived, which are left out, and
    requests that waited for a client while an experience arrived.

    Parameters
    ----------
    scenario : Scenario
    growing : GrowingForgetStream
        The stream of :func:`growing_stream`.
    ledger : Ledger

    Attributes
    ----------
    scenario : ForgetScenario
        The benchmark with the requests so far.
    """

    def __init__(self, scenario: Scenario, growing: Any, ledger: Ledger) -> None:
        self.scenario = growing.scenario
        self._growing, self._ledger, self._seen = growing, ledger, 0
        self._retention_seconds = 0.0
        if scenario.unlearning.retention != "none":
            self._retention_seconds = float(scenario.unlearning.retention) * _SECONDS_PER_DAY
        self._after = {
            step.id: scenario.arrived_at(index) for index, steps in scenario.forget_entries() for step in steps
        }
        self._arrived_after = {
            f"train:{number}": scenario.arrived_at(index)
            for number, index in enumerate(
                (i for i, entry in enumerate(scenario.timeline) if entry.train and not scenario.skips_training(i)),
                start=1,
            )
        }
        self._arrived = 1
        self._started: list[str] = []
        self._committed_at: dict[str, float] = {}
        self.catch_up()

    @property
    def started(self) -> tuple[str, ...]:
        """Ids of the requests that had an attempt, in the order of their first attempts."""
        return tuple(self._started)

    def catch_up(self) -> None:
        """Read the ledger's events since the last call."""
        for event in self._ledger.events():
            if event.sequence > self._seen:
                self._seen = event.sequence
                self._take_in(event)

    def readable(self, request_id: str) -> bool:
        """Whether the holders of a request may still read its samples. After its commit they may for the retention."""
        committed = self._committed_at.get(request_id)
        return committed is None or time.time() < committed + self._retention_seconds

    def _take_in(self, event: LedgerEvent) -> None:
        name = event.request_id
        if name is None:
            self._arrived = max(self._arrived, self._arrived_after.get(str(event.facts.get("after")), 0))
        elif event.name == Status.UNLEARNING and name not in self._started:
            self._started.append(name)
            try:
                after = max(self._arrived, self._after.get(name, 0))
                self._growing.add(self._ledger.entry(name).request, after, commits=False)
            except InvalidRequestError as error:
                logger.warning("the report leaves out request %s: %s", name, error)
        elif event.name == Status.COMMITTED:
            self._committed_at.setdefault(name, event.time)
            self._growing.commit(name)
        elif event.name in (Status.REJECTED, Status.WITHDRAWN):
            self._growing.release(name)
