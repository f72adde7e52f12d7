"""One run of a scenario: its strategy runs the timeline, and whatever ends is recorded and reported."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.plan import ServeSettings
from fed_unlearn.simulations.run.anonymity import Anonymity, anonymity_of
from fed_unlearn.simulations.run.assembly import new_gate, new_inner_strategy, new_plan
from fed_unlearn.simulations.run.data_checks import Prepared
from fed_unlearn.simulations.run.folders import RECEIPTS, keep_scenario
from fed_unlearn.simulations.run.logs import logging_to
from fed_unlearn.simulations.run.recorder import Recorder
from fed_unlearn.simulations.run.reporting import RunReport, report_of
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.run.stream import Experiences, arrivals_of_clients
from fed_unlearn.simulations.run.views.run_views import RunViews
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import training_config
from fed_unlearn.simulations.tracking.tracking import Tracking
from fed_unlearn.strategies import ContinualUnlearning, Event, Forget, Observer, Train
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError
from fed_unlearn.strategies.outcomes import UnlearningResult

logger = logging.getLogger("fed_unlearn.simulations")

LOG_FILE = "log.txt"

_WORTH_RECORDING = ("training-round", "request-finished")
_LEAST_PAUSE, _PAUSES = 1.0, 100.0
"""Least seconds between two recordings in the middle of an entry, and how many times as long as one takes."""


@dataclass
class ScenarioRun:
    """Runs a scenario in a folder that is locked.

    Attributes
    ----------
    prepared : Prepared
    grid : Grid
    out : Path
    ledger : Ledger
        The ledger of the run folder.
    engine : str
    oracle : bool
    observer : callable or None
    stays : bool
        Whether to go on serving after the timeline, as in :func:`fed_unlearn.simulations.run.driver.serve`.
    receipt_key : Path or None
        The file of the key that signs receipts; in the run folder where None.
    """

    prepared: Prepared
    grid: Grid
    out: Path
    ledger: Ledger
    _: KW_ONLY
    engine: str
    oracle: bool
    observer: Observer | None
    stays: bool
    receipt_key: Path | None = None
    _report: RunReport | None = field(default=None, init=False)
    _tracking: Tracking | None = field(default=None, init=False)
    _is_begun: bool = field(default=False, init=False)
    _next_record: float = field(default=0.0, init=False)
    _anonymity: Anonymity | None = field(default=None, init=False)
    _views: RunViews | None = field(default=None, init=False)
    _noted: tuple[int, str] = field(default=(-1, ""), init=False)

    def results(self) -> RunResults:
        """Run what is left of the timeline, and stay after it if that is asked for.

        Raises
        ------
        FedUnlearnError
            If the folder holds another run, or clients are there and none of them does its part.
        """
        prepared = self.prepared
        receipts = {"receipts": self.out / RECEIPTS, "receipt_key": self.receipt_key}
        self._strategy = strategy_of(prepared, self.out, self.ledger, self._watch, **receipts)
        self._entries = timeline_of(prepared.scenario, prepared.experiences, prepared.source.classes)
        self._anonymity = anonymity_of(self.out)
        with logging_to(self.out / LOG_FILE), nullcontext() if self._anonymity is None else self._anonymity.in_logs():
            try:
                keep_scenario(prepared.scenario, self.ledger, self.out)
                self._name_classes()
                self._views = RunViews(
                    prepared.scenario, prepared.source, self._strategy, self.out, prepared.experiences
                )
                self._views.catch_up()
                self._recorder = Recorder.begin(
                    prepared.scenario, self.out, self.engine, self._strategy, self._views.of
                )
                self._tracking = self._begin_tracking()
                self._report = report_of(
                    prepared.scenario, prepared.source, self.out, self._strategy, self._recorder, prepared.benchmark
                )
                self._is_begun = True
                whole = self._run()
                if self._report is not None:
                    self._report.note_rest(whole)
                return self._recorder.finish(self._strategy, complete=whole.complete)
            finally:
                if self._report is not None:
                    self._report.close()
                if self._tracking is not None:
                    self._tracking.close(self._recorder.results)

    def _begin_tracking(self) -> Tracking | None:
        """The trackers of the scenario; they are told the engine and the versions with the scenario's settings."""
        results = self._recorder.results
        versions = {f"version.{name}": text for name, text in results.versions.items()}
        return Tracking.of(
            self.prepared.scenario,
            self.out,
            {"engine": results.engine, **versions},
            lambda text: self._watch(Event("tracker-failed", text)),
        )

    def _record(self) -> None:
        """Record what has ended so far, and tell the trackers."""
        started = time.monotonic()
        self._recorder.note(self._strategy)
        self._track()
        ended = time.monotonic()
        self._next_record = ended + max(_LEAST_PAUSE, _PAUSES * (ended - started))

    def _track(self) -> None:
        if self._tracking is not None:
            self._tracking.note(self._recorder.results)

    def _name_classes(self) -> None:
        """Keep in the ledger what the data calls its classes, and say where its numbers are not the model's."""
        names = self.prepared.source.classes
        self.ledger.name_classes(names.names)
        if (renumbering := names.renumbering()) is not None:
            logger.info("%s", renumbering)
            self._watch(Event("classes-named", renumbering))

    def _run(self) -> UnlearningResult:
        initial = self.prepared.initial
        try:
            if not self.stays:
                return self._strategy.run(self.grid, self._entries, initial, on_entry=self._note_entry)
            return self._strategy.serve(
                self.grid,
                self._entries,
                initial,
                on_entry=self._note_entry,
                on_turn=self._note_turn,
                settings=ServeSettings(**self.prepared.scenario.serve.model_dump()),
            )
        except ClientsFailedError:
            self._record()
            raise

    def _watch(self, event: Event) -> None:
        event = event if self._anonymity is None else self._anonymity.event(event)
        if self.observer is not None:
            self.observer(event)
        if self._report is not None:
            self._report.observe(event)
        if self._views is not None:
            self._views.observe(event)
        if event.kind in _WORTH_RECORDING and self._is_begun and time.monotonic() >= self._next_record:
            self._record()

    def _note_entry(self, position: int, result: UnlearningResult) -> None:
        """Record what an entry of the timeline gave, with its oracles."""
        entry, trained = self._entries[position], sum(isinstance(item, Train) for item in self._entries[: position + 1])
        self._record()
        if self._report is not None:
            self._report.note(position, entry, trained, result)
        if self.oracle and isinstance(entry, Forget):
            ended = [outcome for outcome in result.requests if outcome.status is not Status.HELD]
            served = [outcome.request.id for outcome in ended if outcome.before is not None]
            if served:
                oracles = self._strategy.retrain_oracles(self.grid, served)
                if self._views is not None:
                    self._views.note_oracles(oracles)
                self._recorder.note_oracles(oracles, self._strategy)
                self._track()

    def _note_turn(self, result: UnlearningResult) -> None:
        """Record what a server that stays has done since it slept; nothing is written where it has done nothing."""
        head = self._strategy.ledger.head()
        if head == self._noted:
            return
        self._noted = head
        self._record()
        if self._report is not None:
            self._report.note_rest(result)


def strategy_of(
    prepared: Prepared,
    out: Path,
    ledger: Ledger,
    observer: Observer | None = None,
    *,
    receipts: Path | None = None,
    receipt_key: Path | None = None,
) -> ContinualUnlearning:
    """The strategy that runs a scenario in a folder.

    Parameters
    ----------
    prepared : Prepared
    out : Path
        The run folder.
    ledger : Ledger
        The ledger in it.
    observer : callable, optional
        Called with what happens.
    receipts, receipt_key : Path, optional
        Folder of receipts, and the file of the key that signs them, as for the strategy.
    """
    scenario, experiences = prepared.scenario, prepared.experiences
    return ContinualUnlearning(
        new_inner_strategy(scenario),
        ledger=ledger,
        gate=new_gate(scenario),
        plan=new_plan(scenario),
        checkpoints=out / "checkpoints",
        seed=scenario.seed,
        evaluate_every=scenario.run.evaluate_every,
        observer=observer,
        arrivals=arrivals_of_clients(scenario, prepared.source, experiences) if experiences is not None else None,
        receipts=receipts,
        receipt_key=receipt_key,
    )


def timeline_of(
    scenario: Scenario, experiences: Experiences | None = None, names: ClassNames = UNNAMED_CLASSES
) -> list[Train | Forget]:
    """The timeline of a scenario for the strategy, without training that a checkpoint replaces.

    Parameters
    ----------
    scenario : Scenario
    experiences : Experiences, optional
        The experiences of its stream. Clients evaluate on test samples of the classes that have arrived.
    names : ClassNames, optional
        What its data calls the classes. Without any, the scenario names them by their index.
    """
    entries: list[Train | Forget] = []
    for index, entry in enumerate(scenario.timeline):
        arrived = scenario.arrived_at(index)
        if entry.train is None:
            config = training_config(scenario.training, scenario.seed, arrived=arrived)
            entries.append(Forget(tuple(scenario.request_of(step, names=names) for step in entry.requests), config))
        elif not scenario.skips_training(index):
            config = training_config(
                scenario.training.overridden(entry.train),
                scenario.seed,
                experience=scenario.experience_at(index),
                arrived=arrived,
            )
            evaluate_config = ConfigRecord()
            if experiences is not None:
                evaluate_config["arrived-classes"] = list(experiences.arrived_classes(arrived))
            start = entry.train.not_before
            entries.append(
                Train(
                    rounds=entry.train.rounds,
                    train_config=config,
                    evaluate_config=evaluate_config,
                    not_before=None if start is None else start.timestamp(),
                )
            )
    return entries
