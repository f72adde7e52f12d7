"""A run's models as Avalanche's metrics and loggers show them; only for scenarios that ask for it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import ArrayRecord

from fed_unlearn.arrays import pack, to_state_dict
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.recorder import Recorder
from fed_unlearn.simulations.sections import Scenario
from fed_unlearn.simulations.stream import benchmark_of
from fed_unlearn.simulations.task import data_of_client, new_model
from fed_unlearn.strategies import ContinualUnlearning, Forget, Train
from fed_unlearn.strategies.events import Event
from fed_unlearn.strategies.outcomes import UnlearningResult

if TYPE_CHECKING:
    from fed_unlearn.avalanche.reporting import FederationReport

logger = logging.getLogger("fed_unlearn.simulations")

FOLDER = "reports"

_Placed = list[tuple[int, ForgetRequest]]


class RunReport:
    """Tells a :class:`~fed_unlearn.avalanche.reporting.FederationReport` of a run as it goes.

    Requests are evaluated when they are committed, on the model of that moment; those that failed with what comes next.

    Parameters
    ----------
    scenario : Scenario
    report : FederationReport
    strategy : ContinualUnlearning
    recorder : Recorder
        Whose count of rounds is the step of every figure.
    """

    def __init__(
        self, scenario: Scenario, report: FederationReport, strategy: ContinualUnlearning, recorder: Recorder
    ) -> None:
        self._report, self._strategy, self._recorder = report, strategy, recorder
        self._arrived = [
            scenario.arrived_at(index)
            for index, entry in enumerate(scenario.timeline)
            if entry.train is None or not scenario.skips_training(index)
        ]

    def observe(self, event: Event) -> None:
        """An event of the strategy's; only the end of a commit, which is in the ledger by then, is of interest here."""
        served = self._strategy.served
        if event.kind != "request-finished" or event.request_id is None or served is None:
            return
        if self._strategy.ledger.entry(event.request_id).status is Status.COMMITTED:
            self._note_requests(pack(served.arrays))

    def note(self, position: int, entry: Train | Forget, trained: int, result: UnlearningResult) -> None:
        """What one entry of the timeline gave, once the recorder knows it.

        Parameters
        ----------
        position : int
            Of the entry among those that are run.
        entry : Train or Forget
        trained : int
            Training entries up to this one.
        result : UnlearningResult
        """
        if isinstance(entry, Forget):
            self.note_rest(result)
            return
        self._report.note_training(
            to_state_dict(result.arrays),
            self._recorder.rounds(self._strategy),
            number=trained,
            arrived=max(1, self._arrived[position]),
            ended=_served(self._strategy),
        )

    def note_rest(self, result: UnlearningResult) -> None:
        """Requests that have ended and that nothing was said of yet."""
        self._note_requests(result.arrays)

    def close(self) -> None:
        """Close all files."""
        self._report.close()

    def _note_requests(self, arrays: ArrayRecord) -> None:
        rounds = self._recorder.rounds(self._strategy)
        self._report.note_requests(to_state_dict(arrays), rounds, _served(self._strategy))


def report_of(
    scenario: Scenario, source: ImageSource, out: Path, strategy: ContinualUnlearning, recorder: Recorder
) -> RunReport | None:
    """The report that a scenario asks for; None where it asks for none.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.
    out : Path
        The run folder; the report is ``reports`` below it.
    strategy : ContinualUnlearning
        That runs it.
    recorder : Recorder
        Of its results.
    """
    if not scenario.reporting.loggers:
        return None
    from fed_unlearn.avalanche.reporting import FederationReport

    report = FederationReport(
        forget_benchmark_of(scenario, source),
        new_model(scenario, source),
        scenario.reporting.loggers,
        out / FOLDER,
        device=torch.device("cuda:0" if torch.cuda.is_available() else "cpu"),
    )
    return RunReport(scenario, report, strategy, recorder)


def forget_benchmark_of(scenario: Scenario, source: ImageSource) -> Any:
    """The Avalanche benchmark of a scenario, with its requests as the forget stream.

    Requests that cannot be served are not in it: the run rejects them, too.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.

    Returns
    -------
    fed_unlearn.avalanche.streams.ForgetScenario
        A request's samples are those that the federation forgets, drawn ones too.
    """
    from fed_unlearn.avalanche.benchmarks import experience_ids
    from fed_unlearn.avalanche.streams import forget_benchmark

    benchmark = benchmark_of(scenario, source)
    streamed = set().union(*experience_ids(benchmark))
    clients = {
        str(client): [name for name in data_of_client(scenario, source, client).train.ids if name in streamed]
        for client in range(scenario.clients.count)
    }

    def made(placed: _Placed) -> Any:
        requests: dict[int, list[ForgetRequest]] = {}
        for after, request in placed:
            requests.setdefault(after, []).append(request)
        return forget_benchmark(benchmark, requests, clients=clients, seed=scenario.seed)

    placed = _requests_of(scenario)
    try:
        return made(placed)
    except InvalidRequestError:
        kept: _Placed = []
        for item in placed:
            try:
                made([*kept, item])
            except InvalidRequestError as error:
                logger.warning("the report leaves out request %s: %s", item[1].id, error)
            else:
                kept.append(item)
        return made(kept)


def _requests_of(scenario: Scenario) -> _Placed:
    """Every request with the number of experiences before it; those without an id have the ledger's."""
    placed: _Placed = []
    for index, steps in scenario.forget_entries():
        for step in steps:
            request = scenario.request_of(step)
            name = request.id if request.id is not None else f"r{len(placed) + 1}"
            placed.append((max(1, scenario.arrived_at(index)), replace(request, id=name)))
    return placed


def _served(strategy: ContinualUnlearning) -> dict[str, bool]:
    """Whether each request that has ended was ever committed, by id; those that were rejected unserved are left out."""
    served: dict[str, bool] = {}
    for entry in strategy.ledger.entries():
        outcome = strategy.outcome(entry.id)
        if outcome is not None and outcome.before is not None:
            served[entry.id] = entry.ever_committed
    return served
