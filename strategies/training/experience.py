"""One training experience from its first round to the gate, with points that a crash can go back to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from fed_unlearn.arrays import all_finite, pack
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.gate import Gate, Verdict
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies.clients.grid import NobodyAnsweredError
from fed_unlearn.strategies.events import Event, Observer
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.serving.attempt import median
from fed_unlearn.strategies.serving.figures import Measuring
from fed_unlearn.strategies.serving.relapse import owe_look
from fed_unlearn.strategies.state import DurableState, OpenTraining, ServedModel
from fed_unlearn.strategies.training.trainer import EvaluateFunction, Trainer

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class TrainingRun:
    """Trains, and serves requests in between.

    Attributes
    ----------
    trainer, ledger, checkpoints, state, gate, measuring, observer
        What it works with.
    served : ServedModel
        Replaced in place when the gate accepts.
    result : UnlearningResult
        Collects metrics and cost.
    has_work, serve_pending : callable
        Whether requests can be served now, and what serves them; called between rounds.
    somebody_comes : callable
        Whether there is a client to train with; may wait for one.
    on_accepted : callable
        Told the experience's name and the audit of its model.
    forget_server_state : callable
        Called where the model of a training is not served.
    evaluate_config : ConfigRecord
    evaluate_fn : callable or None
        As in Flower.
    evaluate_every : int
        The inner strategy's evaluation runs after every so many rounds, and after the last.
    durable_seconds : float
        What was trained is written down at least so often.
    """

    trainer: Trainer
    ledger: Ledger
    checkpoints: CheckpointStore
    state: DurableState
    gate: Gate
    measuring: Measuring
    observer: Observer
    served: ServedModel
    result: UnlearningResult
    has_work: Callable[[], bool]
    serve_pending: Callable[[], None]
    somebody_comes: Callable[[], bool]
    on_accepted: Callable[[str, Audit], None]
    forget_server_state: Callable[[], None]
    evaluate_config: ConfigRecord
    evaluate_fn: EvaluateFunction | None
    evaluate_every: int
    durable_seconds: float
    _written: float = field(default_factory=time.monotonic)

    def run(self, training: OpenTraining) -> bool:
        """Train the experience from where it stands to its end, and serve what is pending in between.

        Returns
        -------
        bool
            False where the experience stays open, since there is no client to train with or nobody audits its model:
            the next call goes on with it. Requests wait meanwhile: its model may carry what they ask to forget.
        """
        if training.done:
            logger.info("%s goes on after round %d of %d", training.name, training.done, training.rounds)
        else:
            self.state.save_training(training, self.served)
        self._tell("training-started", f"{training.name}: {training.rounds} rounds", training.done, training.rounds)
        while training.done < training.rounds:
            if training.done and self.has_work() and self._accept(training):
                self.serve_pending()
            if not self.somebody_comes():
                return self._stay_open(training, "no client is there")
            self._round(training)
        if not self._accept(training):
            return self._stay_open(training, "nobody has audited its model")
        self._tell("training-finished", training.name, training.rounds, training.rounds)
        return True

    def _stay_open(self, training: OpenTraining, reason: str) -> bool:
        logger.warning(
            "%s stays open after round %d of %d: %s; the next call goes on with it",
            training.name,
            training.done,
            training.rounds,
            reason,
        )
        self.state.save_training(training, self.served)
        return False

    def _round(self, training: OpenTraining) -> None:
        started = time.perf_counter()
        grid = self.measuring.auditor.grid
        grid.take_traffic()
        number = training.done + 1
        last = number == training.rounds
        evaluates = last or number % self.evaluate_every == 0
        outcome = self.trainer.train(
            training.arrays if training.arrays is not None else self.served.arrays,
            training.first + number,
            training.config,
            evaluate_config=self._evaluate_config() if evaluates else None,
            usual_norm=self.served.update_norm,
            measure_norms=True,
        )
        training.arrays, training.done = outcome.arrays, number
        self.served.train_config = outcome.config
        if outcome.update_norms:
            self.served.update_norm = median(outcome.update_norms)
        if outcome.train_metrics is not None:
            self.result.train_metrics_clientapp[number] = outcome.train_metrics
        if outcome.evaluate_metrics is not None:
            self.result.evaluate_metrics_clientapp[number] = outcome.evaluate_metrics
        if self.evaluate_fn is not None:
            central = self.evaluate_fn(number, pack(outcome.arrays))
            if central is not None:
                self.result.evaluate_metrics_serverapp[number] = central
        self.result.training_seconds += time.perf_counter() - started
        self.result.training_traffic.add(grid.take_traffic())
        self._tell("training-round", f"round {number} of {training.rounds}", number, training.rounds)
        if time.monotonic() - self._written >= self.durable_seconds:
            self.state.save_training(training, self.served)
            self.state.purge()
            self._written = time.monotonic()

    def _evaluate_config(self) -> ConfigRecord:
        """What clients are told to evaluate by: the user's configuration, and the classes that are no more."""
        return ConfigRecord({**self.evaluate_config, "forgotten-classes": sorted(self.ledger.forgotten_classes())})

    def _accept(self, training: OpenTraining) -> bool:
        """The gate on ordinary training: what is served next was looked at first; False where nobody looked."""
        finished = training.done == training.rounds
        if training.arrays is None:
            if finished:
                with self.ledger.transaction():
                    self.state.finish_training(training)
            return True
        served, candidate = self.served, training.arrays
        try:
            audit = self.measuring.audit_of(candidate)
            self.measuring.keep_comparable(audit)
        except NobodyAnsweredError as error:
            logger.warning("%s is not served yet: %s", training.name, error)
            return False
        forgotten = self.ledger.forgotten_classes()
        both = set(audit.replies) & set(served.audit.replies) if served.audit is not None else None
        counts = audit.counts("validation", both)
        before = served.audit.counts("validation", both) if served.audit is not None else None
        left_out = forgotten | (served.audit.absent_classes if served.audit is not None else frozenset())
        decision = self.gate.decide_training(
            finite=all_finite(candidate),
            retain_accuracy=counts.accuracy(without=left_out) if counts is not None else None,
            accepted=before.accuracy(without=left_out) if before is not None else None,
        )
        if decision.verdict is not Verdict.ACCEPT:
            self._refuse(training, decision.reason or "", finished=finished)
            return True
        digest = self.checkpoints.save(candidate)
        training.arrays = None
        served.arrays, served.audit = candidate, audit.without_targets()
        with self.ledger.transaction():
            self.ledger.accept_model(digest, training.name)
            owe_look(self.ledger, training.name, may_reopen=True)
            self._write(training, finished=finished)
        self.state.purge()
        self.on_accepted(training.name, audit)
        return True

    def _refuse(self, training: OpenTraining, reason: str, *, finished: bool) -> None:
        text = f"{training.name} is not served: {reason}; the last accepted model stays"
        logger.warning("%s", text)
        self._tell("training-refused", text, training.done, training.rounds)
        training.arrays = None
        self.forget_server_state()
        with self.ledger.transaction():
            self.ledger.note("training-refused", {"experience": training.name})
            self._write(training, finished=finished)

    def _write(self, training: OpenTraining, *, finished: bool) -> None:
        self.state.save_training(training, self.served)
        if finished:
            self.state.finish_training(training)

    def _tell(self, kind: str, text: str, step: int, steps: int) -> None:
        self.observer(Event(kind, text, step=step, steps=steps))  # type: ignore[arg-type]
