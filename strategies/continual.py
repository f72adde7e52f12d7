"""A Flower strategy that goes on learning and forgetting: it wraps the one that the user has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import pack
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import ledger_lock
from fed_unlearn.protocol.instructions import arrivals_record
from fed_unlearn.strategies.call_contexts import CallContexts
from fed_unlearn.strategies.clients.messages.exchange import DeviceUse
from fed_unlearn.strategies.context import Observer
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.inner.delegation import DelegatingStrategy
from fed_unlearn.strategies.inner.kinds import check_supported, kind_of
from fed_unlearn.strategies.inner.state import reset_server_state
from fed_unlearn.strategies.learning import Learning
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.receipt_folder import ReceiptFolder
from fed_unlearn.strategies.request_calls import RequestCalls
from fed_unlearn.strategies.serving.debts import Debts
from fed_unlearn.strategies.serving.service import RequestService
from fed_unlearn.strategies.state import OpenTraining, ServedModel
from fed_unlearn.strategies.staying.calls import StayingCalls
from fed_unlearn.strategies.timeline import Forget, Train, due_part
from fed_unlearn.strategies.timeline_run import TimelineRun
from fed_unlearn.strategies.training.oracle import OracleCalls
from fed_unlearn.strategies.training.trainer import EvaluateFunction
from fed_unlearn.strategies.training.trainers import experience_of

logger = logging.getLogger("fed_unlearn.strategies")


class ContinualUnlearning(DelegatingStrategy, RequestCalls, CallContexts, OracleCalls, StayingCalls):
    """Wraps a Flower strategy, and serves forget requests between its training rounds.

    Parameters
    ----------
    inner : Strategy
        Any of Flower's that trains one torch model, or your own: it trains as it always did, on retained data only.
    ledger : str, Path or Ledger
        The ledger, in which requests and accepted models are recorded; made if it is not there. Its served model wins
        over ``initial_arrays``.
    gate : Gate, optional
        Judges every candidate; default thresholds where none is given.
    plan : UnlearningPlan, optional
        Methods, repair and retention of requests that do not say so themselves.
    checkpoints : str or Path, optional
        Folder of accepted models; ``checkpoints`` beside the ledger where none is given.
    seed : int
        Seed of all that is drawn on the server, and in unlearning at the clients.
    evaluate_every : int
        Interval in rounds between evaluations by the inner strategy, which also evaluates after the last round.
    observer : callable, optional
        Called with everything that happens, as :class:`~fed_unlearn.strategies.context.Event`.
    noise_seed : int, optional
        Seed of the noise of a differential-privacy wrapper; ``seed`` where none is given. Clients are told ``seed``,
        and who knows it can take the noise off: outside of simulations, give a secret one.
    arrivals : mapping of str to mapping of int to sequence of str, optional
        Ids of a client's training samples by experience, counted from 1, by client, where samples arrive over time.
        Samples that are not named never arrive. Ids of forgotten samples stay. A client that is not named goes by its
        own task.
    class_names : sequence of str, optional
        What the data calls its classes, by the model's outputs; if none are given, what most clients say.
    receipts : str or Path, optional
        Folder in which a signed receipt is written of each request that ends. No receipts are written where none is
        given.
    receipt_key : str or Path, optional
        The file of the private key that receipts are signed with; beside their folder where none is given, as
        ``receipts.key`` for ``receipts``. It is made with the first receipt, and its public key in a file beside it.

    Raises
    ------
    InvalidParameterError
        If the inner strategy or a bound of the gate cannot be used, a method of the plan can serve nothing beside the
        inner strategy, or a sample of a client arrives twice.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> strategy = ContinualUnlearning(FedAvg(), ledger="ledger.db")  # doctest: +SKIP
    >>> strategy.submit(ForgetRequest.for_class(3))  # doctest: +SKIP
    'r1'
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        ledger: str | Path | Ledger,
        gate: Gate | None = None,
        plan: UnlearningPlan | None = None,
        checkpoints: str | Path | None = None,
        seed: int = 0,
        evaluate_every: int = 1,
        observer: Observer | None = None,
        noise_seed: int | None = None,
        arrivals: Mapping[str, Mapping[int, Sequence[str]]] | None = None,
        class_names: Sequence[str] | None = None,
        receipts: str | Path | None = None,
        receipt_key: str | Path | None = None,
    ) -> None:
        check_supported(inner)
        self.arrivals = {client: arrivals_record(experiences) for client, experiences in (arrivals or {}).items()}
        self.inner = inner
        self._kind = kind_of(inner)
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        if class_names is not None:
            self.ledger.name_classes(class_names)
        self.gate, self.plan = gate or Gate(), plan or UnlearningPlan()
        if problems := self._problems_together():
            raise InvalidParameterError(*problems)
        self.checkpoints = CheckpointStore(checkpoints or self.ledger.path.parent / "checkpoints")
        self.seed, self.noise_seed = seed, seed if noise_seed is None else noise_seed
        self.evaluate_every, self.observer = max(1, evaluate_every), observer
        self.state = DurableState(self.ledger, self.checkpoints, inner, seconds_between=self.plan.durable_seconds)
        self.receipts = ReceiptFolder.of(self.ledger, receipts, receipt_key)
        self.served: ServedModel | None = None
        self.device_use: dict[DeviceUse, int] = {}

    def validate(self) -> list[str]:
        """Everything that is wrong with the wrapped strategy, the gate and the plan, one line each."""
        return [*problems_of(check_supported, self.inner), *self._problems_together(), *self.plan.validate()]

    def _problems_together(self) -> list[str]:
        return [*self.gate.problems_in_federation(), *self.plan.problems_beside(type(self.inner))]

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFunction | None = None,
        *,
        total_rounds: int | None = None,
    ) -> UnlearningResult:
        """Train for some rounds of the inner strategy's ``start()``, and serve what is queued before, in and after.

        Parameters
        ----------
        grid : Grid
            Grid of the runtime.
        initial_arrays : ArrayRecord, optional
            The model to start from. It is needed the first time, and not used where a model serves already.
        num_rounds : int
            Rounds to train in this call. 0 only serves the queue.
        total_rounds : int, optional
            Number of rounds in the ledger at which training ends, in place of ``num_rounds``. An app that is run again
            for the next request does not train again.
        timeout : float
            Seconds that each exchange waits for answers.
        train_config, evaluate_config : ConfigRecord, optional
            Configurations for the clients, as in Flower.
        evaluate_fn : callable, optional
            Centralised evaluation, as in Flower.

        Returns
        -------
        UnlearningResult
            The result. Its arrays are the last accepted model, and ``inner`` is what the inner strategy's ``start()``
            returned.

        Raises
        ------
        FedUnlearnError
            If there is no model to start from, no client ever said who it is, or another process works on the ledger.
        """
        with ledger_lock(self.ledger.path):
            if total_rounds is not None:
                num_rounds = max(0, total_rounds - sum(experience.rounds for experience in self.state.experiences()))
            context = self._context(grid, initial_arrays, timeout)
            context.issue_receipts()
            open_training = self.state.load_training()
            if train_config is not None and open_training is None and self.state.open_work() is None:
                context.served.train_config = ConfigRecord({**train_config, **context.kind.proximal})
            service = RequestService(context)
            service.identify_clients()
            try:
                if open_training is None or open_training.done == 0:
                    service.serve_pending()
                if num_rounds or open_training is not None:
                    training = open_training or OpenTraining.after(self.state.experiences(), num_rounds, train_config)
                    given = evaluate_config or ConfigRecord(), self.evaluate_every, evaluate_fn
                    Learning(context, service).run(experience_of(context, training, *given))
                Debts(context, service).settle(waits=self.waits_for_debts)
            except BaseException:
                self.served = None  # half-changed; the next call goes on from what is written down
                reset_server_state(self.inner)
                raise
            finally:
                for use, count in context.grid.take_device_use().items():
                    self.device_use[use] = self.device_use.get(use, 0) + count
            context.result.arrays = pack(context.served.arrays)
            logger.info("ledger: %d events, head %s", *self.ledger.head())
            return context.result

    def run(
        self,
        grid: Grid,
        timeline: Sequence[Train | Forget],
        initial_arrays: ArrayRecord | None = None,
        timeout: float = 3600,
        evaluate_fn: EvaluateFunction | None = None,
        on_entry: Callable[[int, UnlearningResult], None] | None = None,
    ) -> UnlearningResult:
        """Run a timeline of training experiences and requests; what an earlier process has done of it is not repeated.

        Run it again with the same ledger after a crash, or where it stopped since no client was there any more: it
        goes on where it was. Requests that wait are tried again with the entry that it goes on with, under that one's
        configuration; after the last one, under the last one's.

        Parameters
        ----------
        grid : Grid
            Grid of the runtime.
        timeline : sequence of Train or Forget
            Entries in order.
        initial_arrays, timeout, evaluate_fn
            The first model, the seconds that each exchange waits, and the server's own evaluation, as for
            :meth:`start`.
        on_entry : callable, optional
            Called with the index and the result of each entry that was run here, whole or from where a crash had cut
            it.

        Returns
        -------
        UnlearningResult
            The results of all that was run here; its arrays are the last accepted model.

        Raises
        ------
        InvalidParameterError
            If a request names an unknown method, or one that can serve none where the inner strategy trains.
        """
        with ledger_lock(self.ledger.path):
            self.announce(timeline)
            due = due_part(timeline, time.time())
            whole = TimelineRun(self, grid, due, initial_arrays, timeout, evaluate_fn).run(on_entry)
            if len(due) < len(timeline):
                logger.warning("entry %d of the timeline is not due yet; run it again then, or serve", len(due) + 1)
                whole.complete = False
            if not whole.arrays:
                whole.arrays = pack(self._serve(initial_arrays).arrays)
            return whole

    def summary(self) -> None:
        """Log the configuration, the inner strategy's included."""
        logger.info("ContinualUnlearning around %s, ledger %s", type(self.inner).__name__, self.ledger.path)
        self.inner.summary()
