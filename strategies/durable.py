"""What outlives a crash: the state of a run, written into the ledger before each step that depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn.array_types import check_array_types
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.records import decode, encode, joined, split
from fed_unlearn.strategies.clients.messages.exchange import Traffic
from fed_unlearn.strategies.durable_records import ExperienceRecord, InnerRecord, ServedRecord, TrainingRecord
from fed_unlearn.strategies.inner.kept_models import note_given_models
from fed_unlearn.strategies.inner.known_models import known_models
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.state import note_settings, restore_server_state, server_state
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.state import (
    Experience,
    MethodState,
    OpenAttempt,
    OpenCommit,
    OpenTraining,
    ServedModel,
    ordered,
)
from fed_unlearn.strategies.trained_experiences import finished_records, trained_experiences
from fed_unlearn.strategies.training.figures import TrainingFigures

logger = logging.getLogger("fed_unlearn.strategies")

S = TypeVar("S", bound=MethodState)
T = TypeVar("T")


class DurableState:
    """Reads and writes what the server remembers; what belongs together is written in one transaction.

    Parameters
    ----------
    ledger : Ledger
        Ledger in which the state is written.
    checkpoints : CheckpointStore
        Store in which the state's arrays are written.
    inner : Strategy
        The wrapped strategy. Its server state is kept with the training that it belongs to.
    seconds_between : float
        Minimum time in seconds between two writes of a server-side method's state.

    Attributes
    ----------
    accountant : PrivacyAccountant
        Counts releases with noise.
    """

    def __init__(
        self, ledger: Ledger, checkpoints: CheckpointStore, inner: Strategy, *, seconds_between: float = 5.0
    ) -> None:
        self._seconds_between = seconds_between
        self._method_state_saved = float("-inf")
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._inner = inner
        self._has_served = False
        account = ledger.state("privacy")
        self.accountant = PrivacyAccountant.from_json(str(account)) if account is not None else PrivacyAccountant()

    def load_served(self) -> ServedModel | None:
        """The model that serves; None before the first."""
        digest = self._ledger.served_model()
        if digest is None:
            return None
        arrays, record = self._checkpoints.load(digest), self._load("served", ServedRecord)
        if record is None:
            return ServedModel(arrays)
        return ServedModel(
            arrays, record.audit, record.first_audit, record.update_norm, record.train_config, record.repair_rounds
        )

    def serve(self, initial_arrays: ArrayRecord | None) -> ServedModel:
        """The model that serves, with the inner strategy's state: the ledger's, or the given one on a new ledger.

        Raises
        ------
        FedUnlearnError
            If there is neither.
        InvalidModelError
            If the ledger's model has other arrays than the given one, or an array is of a type that cannot be averaged.
        """
        if not self._has_served:  # what the user has set by now is no state of an earlier process
            note_settings(self._inner)
            self._has_served = True
        served = self.load_served()
        if served is not None:
            if initial_arrays is not None:
                logger.info("the ledger's model is served; initial_arrays are not used")
                served.arrays = ordered(served.arrays, initial_arrays, self._ledger.path)
                known_models(self._inner).note(unpack(initial_arrays))
            self._note_models(served)
            self.load_inner()
            return served
        if initial_arrays is None:
            raise FedUnlearnError("there is no model to start from: give initial_arrays, or a ledger that has a model")
        check_array_types(initial_arrays)
        served = ServedModel(unpack(initial_arrays))
        self._note_models(served)
        digest = self._checkpoints.save(served.arrays)
        with self._ledger.transaction():
            self._ledger.accept_model(digest, "initial")
            self.save_initial(digest)
        return served

    def _note_models(self, served: ServedModel) -> None:
        known_models(self._inner).note_served(served.arrays)
        note_given_models(self._inner)

    def save_served(self, served: ServedModel) -> None:
        """Write what is known of the served model; the ledger itself says which model it is."""
        record = ServedRecord(
            audit=served.audit,
            first_audit=served.first_audit,
            update_norm=served.update_norm,
            train_config=served.train_config,
            repair_rounds=served.repair_rounds,
        )
        self._save("served", record)

    def initial(self) -> Arrays | None:
        """The model that the first experience started from; None where nothing was trained here."""
        digest = self._ledger.state("initial")
        return self._checkpoints.load(str(digest)) if digest is not None else None

    def save_initial(self, digest: str) -> None:
        """Keep the model that the first experience starts from; it carries no data."""
        self._ledger.set_state("initial", digest)

    def experiences(self) -> list[Experience]:
        """Every training experience that has come to its end, in order."""
        return trained_experiences(self._ledger, with_open=False)

    def trained(self) -> list[Experience]:
        """Those, and the rounds that are done of the one that is open."""
        return trained_experiences(self._ledger)

    def add_figures(self, figures: Sequence[TrainingFigures]) -> None:
        """Write the figures of experiences that an earlier version trained, in order; the others keep theirs."""
        pairs = zip(self._finished(), figures, strict=True)
        self._write_finished([replace(item, figures=item.figures or given) for item, given in pairs])

    def finish_training(self, training: OpenTraining) -> None:
        """End the experience; call it within the transaction that accepts or refuses its model."""
        record = ExperienceRecord(training.rounds, training.config, training.figures, training.changed_configs)
        done = [*self._finished(), record]
        self._write_finished(done)
        self._ledger.set_state("training", None)

    def load_training(self) -> OpenTraining | None:
        """The experience that a crash cut short; None where there is none."""
        record = self._load("training", TrainingRecord)
        if record is None:
            return None
        arrays = self._checkpoints.load(record.model) if record.model is not None else None
        return OpenTraining(
            name=record.name,
            first=record.first,
            rounds=record.rounds,
            done=record.done,
            config=record.config,
            arrays=arrays,
            figures=record.figures,
            longest=record.longest,
            changed_configs=dict(record.changed_configs),
            evaluated=record.done if record.evaluated is None else record.evaluated,
        )

    def save_training(self, training: OpenTraining, served: ServedModel) -> None:
        """Write how far the experience has come: first its model and the inner strategy's state, then the ledger."""
        record = TrainingRecord(
            name=training.name,
            first=training.first,
            rounds=training.rounds,
            done=training.done,
            config=training.config,
            model=self._checkpoints.save(training.arrays) if training.arrays is not None else None,
            figures=training.figures,
            longest=training.longest,
            changed_configs=training.changed_configs,
            evaluated=training.evaluated,
        )
        with self._ledger.transaction():
            self.save_inner()
            self.save_served(served)
            self._save("training", record)

    def save_inner(self) -> None:
        """Write what the inner strategy carries from round to round."""
        groups, scalars = server_state(self._inner)
        digest = self._checkpoints.save(joined(groups)) if groups else None
        self._save("inner", InnerRecord(digest=digest, groups=tuple(groups), scalars=scalars))
        if self.accountant.releases:
            self._ledger.set_state("privacy", self.accountant.to_json())

    def load_inner(self) -> None:
        """Give it back to the inner strategy, in a new process."""
        record = self._load("inner", InnerRecord)
        if record is not None:
            arrays = self._checkpoints.load(record.digest) if record.digest else {}
            restore_server_state(self._inner, split(arrays, record.groups), record.scalars)

    def open_work(self) -> OpenAttempt | OpenCommit | None:
        """The attempt or the commit that is being made; None where there is none."""
        body = self._ledger.state("attempt")
        if not body:
            return None
        if isinstance(body, dict) and "committing" in body:
            return decode(OpenCommit, body)
        return decode(OpenAttempt, body)

    def save_open_work(self, work: OpenAttempt | OpenCommit | None) -> None:
        """Write which requests are tried or committed, how, and how far it has come; None where none are."""
        self._save("attempt", work)

    def save_method_state(self, state: MethodState, cost: Traffic | None = None, seconds: float = 0.0) -> None:
        """Write how far the open attempt's method has come, at most every few seconds: what is lost is repeated."""
        now, attempt = time.monotonic(), self.open_work()
        if now - self._method_state_saved < self._seconds_between or not isinstance(attempt, OpenAttempt):
            return
        self._method_state_saved = now
        body, arrays = encode(state)
        attempt = replace(attempt, method_body=body, traffic=cost or Traffic(), seconds=seconds)
        self.save_open_work(replace(attempt, method_state=self._checkpoints.save(arrays)))

    def load_method_state(self, cls: type[S]) -> S | None:
        """How far it had come; None where the attempt begins.

        Parameters
        ----------
        cls : type
            The method's own class of states.
        """
        attempt = self.open_work()
        if not isinstance(attempt, OpenAttempt) or attempt.method_state is None:
            return None
        try:
            return decode(cls, attempt.method_body, self._checkpoints.load(attempt.method_state))
        except FedUnlearnError as error:
            logger.warning("%s: the attempt begins anew: %s", attempt.method, error)
            return None

    def progress(self, request_id: str) -> RequestProgress:
        """What is known of a request between its attempts."""
        return self._load(f"request:{request_id}", RequestProgress) or RequestProgress()

    def save_progress(self, request_id: str, progress: RequestProgress | None) -> None:
        """Write it; None to forget it."""
        self._save(f"request:{request_id}", progress)

    def purge(self) -> None:
        """Delete every checkpoint that nothing refers to: older ones carry what was forgotten since."""
        training, inner = self._load("training", TrainingRecord), self._load("inner", InnerRecord)
        keep = {self._ledger.served_model(), self._ledger.state("initial")}
        keep |= {training.model if training else None, inner.digest if inner else None}
        match self.open_work():
            case OpenAttempt(method_state=digest) | OpenCommit(committing=digest):
                keep.add(digest)
        self._checkpoints.purge({str(digest) for digest in keep if digest})

    def _finished(self) -> list[ExperienceRecord]:
        return finished_records(self._ledger)

    def _write_finished(self, records: Sequence[ExperienceRecord]) -> None:
        self._ledger.set_state("experiences", [encode(record)[0] for record in records])

    def _load(self, name: str, cls: type[T]) -> T | None:
        body = self._ledger.state(name)
        return decode(cls, body) if body else None

    def _save(self, name: str, record: object | None) -> None:
        self._ledger.set_state(name, None if record is None else encode(record)[0])
