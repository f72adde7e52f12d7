"""What every step of one call works with, and what it tells whoever watches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.protocol.instructions import arrived_of
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.scopes import scope_words
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.inner.kinds import InnerKind
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.receipt_folder import ReceiptFolder
from fed_unlearn.strategies.state import ServedModel
from fed_unlearn.strategies.training.history import HistoryStore

logger = logging.getLogger("fed_unlearn.strategies")

EventKind = Literal[
    "training-started",
    "training-round",
    "training-finished",
    "training-refused",
    "clients-failed",
    "figures-doubted",
    "request-started",
    "request-step",
    "request-finished",
    "request-waits",
    "relapse-not-audited",
    "audit",
    "classes-named",
    "receipt-failed",
    "tracker-failed",
]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes
    ----------
    kind : str
        Kind of the event, one of the known ones.
    text : str
        Description in words, for a log.
    request_id : str or None
        The request it belongs to.
    step, steps : int
        Number of the step and of all steps; 0 of 0 where that is not known.
    """

    kind: EventKind
    text: str
    request_id: str | None = None
    step: int = 0
    steps: int = 0


Observer = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """What one call of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning` works with.

    Attributes
    ----------
    inner : Strategy
        The wrapped strategy.
    kind : InnerKind
        What kind of strategy it is.
    ledger : Ledger
        Requests, clients, and the digest of the served model.
    checkpoints : CheckpointStore
        Accepted models.
    state : DurableState
        What a step depends on, written down before the step is taken.
    gate : Gate
        Judges candidates.
    plan : UnlearningPlan
        How requests are served where they do not say so themselves.
    grid : EligibleGrid
        The clients.
    timeout : float
        Seconds that each exchange waits for answers.
    served : ServedModel
        The model that serves; changed in place on a commit and after an accepted training.
    history : HistoryStore or None
        Training rounds that are kept for replay; None where none are.
    seed, noise_seed : int
        Seed of all that is drawn, and of the noise of a differential-privacy wrapper.
    observer : callable or None
        Called with what happens.
    receipts : ReceiptFolder or None
        Receipts of requests that ended; None where none are wanted.
    result : UnlearningResult
        Collects what the call gives.
    """

    inner: Strategy
    kind: InnerKind
    ledger: Ledger
    checkpoints: CheckpointStore
    state: DurableState
    gate: Gate
    plan: UnlearningPlan
    grid: EligibleGrid
    timeout: float
    served: ServedModel
    history: HistoryStore | None
    seed: int
    noise_seed: int
    observer: Observer | None = None
    receipts: ReceiptFolder | None = None
    result: UnlearningResult = field(default_factory=UnlearningResult)

    @property
    def repair_config(self) -> ConfigRecord:
        """The configuration of the last training round, as the plan changes it for repair."""
        return ConfigRecord({**self.served.train_config, **self.plan.repair.config})

    @property
    def arrived(self) -> int:
        """Number of training experiences whose samples are there already; 0 for all."""
        return arrived_of(self.served.train_config)

    def words(self, request: ForgetRequest) -> str:
        """What a request asks for, with what the data calls the classes."""
        return scope_words(request.scope, self.ledger.class_names())

    def tell(
        self, kind: EventKind, text: str, request: ForgetRequest | None = None, *, is_warning: bool = False
    ) -> None:
        """Say what happens to a request, to the log and to the observer; a request that waits is a warning."""
        if request is not None:
            level = logging.WARNING if is_warning or kind == "request-waits" else logging.INFO
            logger.log(level, "request %s: %s", request.id, text)
        self.notify(Event(kind, text, request_id=request.id if request is not None else None))

    def notify(self, event: Event) -> None:
        """Say what happens, to the observer alone."""
        if self.observer is not None:
            self.observer(event)

    def issue_receipts(self) -> None:
        """Write the receipts that are missing of requests that ended; what cannot be written is said, and due later."""
        for problem in self.receipts.catch_up() if self.receipts is not None else ():
            logger.warning("%s", problem)
            self.notify(Event("receipt-failed", problem))
