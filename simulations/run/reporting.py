"""Reports a run's models to Avalanche's metrics and loggers, if the scenario asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import ArrayRecord

from fed_unlearn.arrays import pack, to_state_dict
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.run.recorder import Recorder
from fed_unlearn.simulations.run.report_stream import RequestStream, growing_stream
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import new_model
from fed_unlearn.strategies import ContinualUnlearning, Event, Forget, Train
from fed_unlearn.strategies.outcomes import UnlearningResult

if TYPE_CHECKING:
    from fed_unlearn.avalanche.reporting import FederationReport

FOLDER = "reports"


class RunReport:
    """Keeps a :class:`~fed_unlearn.avalanche.reporting.FederationReport` up to date during a run.

    A request is evaluated when it is committed, on the model of that moment. A request that failed is evaluated with
    the next model. The training samples of a committed request are read only as long as its holders may read them.

    Parameters
    ----------
    scenario : Scenario
    report : FederationReport
    requests : RequestStream
        The forget stream that the report shows.
    strategy : ContinualUnlearning
    recorder : Recorder
        Recorder of the run. It counts the rounds, which are the steps of all figures.
    """

    def __init__(
        self,
        scenario: Scenario,
        report: FederationReport,
        requests: RequestStream,
        strategy: ContinualUnlearning,
        recorder: Recorder,
    ) -> None:
        self._report, self._requests, self._strategy, self._recorder = report, requests, strategy, recorder
        self._arrived = [
            scenario.arrived_at(index)
            for index, entry in enumerate(scenario.timeline)
            if entry.train is None or not scenario.skips_training(index)
        ]

    def observe(self, event: Event) -> None:
        """Handle an event of the strategy. Only the end of a commit matters, which the ledger knows by then."""
        served = self._strategy.served
        if event.kind != "request-finished" or event.request_id is None or served is None:
            return
        if self._strategy.ledger.entry(event.request_id).status is Status.COMMITTED:
            self._note_requests(pack(served.arrays))

    def note(self, position: int, entry: Train | Forget, trained: int, result: UnlearningResult) -> None:
        """Report the result of one entry of the timeline, after it was recorded.

        Parameters
        ----------
        position : int
            The entry's position among those that are run.
        entry : Train or Forget
        trained : int
            The number of training entries up to this one.
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
            ended=self._served(),
        )

    def note_rest(self, result: UnlearningResult) -> None:
        """Report the requests that have ended and were not reported."""
        self._note_requests(result.arrays)

    def close(self) -> None:
        """Close all files."""
        self._report.close()

    def _note_requests(self, arrays: ArrayRecord) -> None:
        rounds = self._recorder.rounds(self._strategy)
        self._report.note_requests(to_state_dict(arrays), rounds, self._served())

    def _served(self) -> dict[str, bool]:
        """Whether each request that ended was ever committed, in order. Requests rejected unserved are left out."""
        self._requests.catch_up()
        served: dict[str, bool] = {}
        for name in self._requests.started:
            outcome = self._strategy.outcome(name)
            if outcome is not None and outcome.before is not None:
                served[name] = self._strategy.ledger.entry(name).ever_committed
        return served


def report_of(
    scenario: Scenario,
    source: ImageSource,
    out: Path,
    strategy: ContinualUnlearning,
    recorder: Recorder,
    benchmark: Any | None = None,
) -> RunReport | None:
    """Make the report that a scenario asks for, or None if it asks for none.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        The data of the scenario.
    out : Path
        The run folder. The report is written to ``reports`` in it.
    strategy : ContinualUnlearning
        The strategy that runs the scenario.
    recorder : Recorder
        The recorder of its results.
    benchmark : CLScenario, optional
        The benchmark of the scenario. It is made if it is not given.
    """
    if not scenario.reporting.loggers:
        return None
    from fed_unlearn.avalanche.reporting import FederationReport

    requests = RequestStream(scenario, growing_stream(scenario, source, benchmark), strategy.ledger)
    report = FederationReport(
        requests.scenario,
        new_model(scenario, source),
        scenario.reporting.loggers,
        out / FOLDER,
        device="cuda" if torch.cuda.is_available() else "cpu",
        readable=requests.readable,
    )
    return RunReport(scenario, report, requests, strategy, recorder)
