"""A run of a timeline: one step after another, until nothing is left to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.messages.runtime import clients_may_come
from fed_unlearn.strategies.context import Observer
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.state import OpenTraining
from fed_unlearn.strategies.timeline import Forget, LedgerView, Step, Train, next_step, trainings
from fed_unlearn.strategies.training.trainer import EvaluateFunction

logger = logging.getLogger("fed_unlearn.strategies")


class Runner(Protocol):
    """What runs the steps: :class:`~fed_unlearn.strategies.continual.ContinualUnlearning`."""

    ledger: Ledger
    state: DurableState
    observer: Observer | None
    waits_for_debts: bool
    """Whether :meth:`start` waits for clients that owe tombstones and are away."""

    def submit(self, request: ForgetRequest) -> str:
        """Write a request into the ledger."""

    def announce(self, timeline: Sequence[Train | Forget]) -> None:
        """Check the methods of a timeline's requests, and keep their ids for them."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFunction | None = None,
    ) -> UnlearningResult:
        """Train for some rounds, and serve what is queued."""


@dataclass(frozen=True)
class TimelineRun:
    """Takes the steps of a timeline.

    Attributes
    ----------
    runner, grid, timeline, initial_arrays, timeout, evaluate_fn
        What is run and with what, as in :meth:`fed_unlearn.strategies.continual.ContinualUnlearning.run`.
    """

    runner: Runner
    grid: Grid
    timeline: Sequence[Train | Forget]
    initial_arrays: ArrayRecord | None
    timeout: float
    evaluate_fn: EvaluateFunction | None

    def run(self, on_entry: Callable[[int, UnlearningResult], None] | None) -> UnlearningResult:
        """Take every step that is left; stop where a training experience stays open, or where an entry is not due.

        Clients that owe tombstones and are away are waited for once, after the last step.
        """
        self.runner.waits_for_debts = False
        try:
            whole = self._steps(on_entry)
        finally:
            self.runner.waits_for_debts = True
        if whole.complete and self.runner.ledger.owed() and clients_may_come(self.grid):
            whole.include(self.runner.start(self.grid, self.initial_arrays, 0, self.timeout))
        return whole

    def _steps(self, on_entry: Callable[[int, UnlearningResult], None] | None) -> UnlearningResult:
        whole, at_start, submitted = UnlearningResult(), self._view(), 0
        step = next_step(self.timeline, None, at_start, at_start)
        while step is not None:
            self._submit(submitted, step.index + 1)
            submitted = step.index + 1
            result = self._take(step)
            whole.include(result)
            now = self._view()
            if step.index < len(self.timeline) and trainings(self.timeline, step.index) > now.finished:
                logger.warning("entry %d of the timeline stays open; run it again to go on with it", step.index + 1)
                whole.complete = False
                return whole
            if on_entry is not None and step.place is not None:
                on_entry(step.place, result)
            step = next_step(self.timeline, step, at_start, now)
        self._submit(submitted, len(self.timeline))
        return whole

    def trains_next(self) -> bool:
        """Whether the next step is training."""
        view = self._view()
        step = next_step(self.timeline, None, view, view)
        return view.training_is_open or (step is not None and step.train is not None)

    def _take(self, step: Step) -> UnlearningResult:
        runner, train = self.runner, step.train
        if train is None:
            return runner.start(self.grid, self.initial_arrays, 0, self.timeout, step.repair_config)
        if not train.rounds and runner.state.load_training() is None:
            experiences = runner.state.experiences()
            runner.state.finish_training(OpenTraining.after(experiences, 0, train.train_config))
        configs = train.train_config, train.evaluate_config
        return runner.start(self.grid, self.initial_arrays, train.rounds, self.timeout, *configs, self.evaluate_fn)

    def _submit(self, first: int, end: int) -> None:
        """Write the requests of some entries into the ledger; those that it has already stay as they are."""
        for entry in self.timeline[first:end]:
            for request in entry.requests if isinstance(entry, Forget) else ():
                self.runner.submit(request)

    def _view(self) -> LedgerView:
        return LedgerView.of(self.runner.state, self.runner.ledger)
