"""A Flower strategy that goes on learning and forgetting: it wraps the one that the user has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedProx, Strategy

from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import FedUnlearnError, InvalidModelError
from fed_unlearn.gate import Gate, Verdict
from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.aggregation import all_finite
from fed_unlearn.strategies.attempt import ServedModel, median
from fed_unlearn.strategies.auditing import Auditor
from fed_unlearn.strategies.events import Event, Observer, ignore
from fed_unlearn.strategies.grid import EligibleGrid
from fed_unlearn.strategies.inner import check_supported, fresh_copy, reset_server_state
from fed_unlearn.strategies.outcomes import OracleOutcome, UnlearningResult
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.retrain import Experience, retrain
from fed_unlearn.strategies.roster import DeviceUse
from fed_unlearn.strategies.rounds import Rounds
from fed_unlearn.strategies.service import RequestService
from fed_unlearn.strategies.training import EvaluateFunction, Trainer

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class _Run:
    """One call of :meth:`ContinualUnlearning.start`."""

    service: RequestService
    trainer: Trainer
    result: UnlearningResult
    train_config: ConfigRecord
    evaluate_config: ConfigRecord
    evaluate_fn: EvaluateFunction | None
    rounds: int
    unaccepted: Arrays | None = None
    """The model of training rounds that the gate has not seen yet."""
    started: float = field(default_factory=time.perf_counter)


class ContinualUnlearning(Strategy):
    """Wraps a Flower strategy, and serves forget requests between its training rounds.

    Parameters
    ----------
    inner : Strategy
        ``FedAvg``, ``FedAvgM``, ``FedAdam`` or ``FedProx``: trains as it always did, on retained data only.
    ledger : str, Path or Ledger
        Where requests and accepted models are recorded; made if it is not there. Its served model wins over
        ``initial_arrays``.
    gate : Gate, optional
        Judges every candidate; default thresholds where none is given.
    plan : UnlearningPlan, optional
        Methods, repair and retention of requests that do not say so themselves.
    checkpoints : str or Path, optional
        Folder of accepted models; ``checkpoints`` beside the ledger where none is given.
    seed : int
        Of everything that is drawn on the server and in unlearning at the clients.
    evaluate_every : int
        The inner strategy's evaluation runs after every so many rounds, and after the last.
    observer : callable, optional
        Told what happens, as :class:`~fed_unlearn.strategies.events.Event`.

    Raises
    ------
    InvalidParameterError
        If the inner strategy cannot be wrapped.

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
        observer: Observer = ignore,
    ) -> None:
        check_supported(inner)
        self.inner = inner
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        self.gate = gate or Gate()
        self.plan = plan or UnlearningPlan()
        self.checkpoints = CheckpointStore(checkpoints or self.ledger.path.parent / "checkpoints")
        self.seed = seed
        self.evaluate_every = max(1, evaluate_every)
        self.observer = observer
        self.served: ServedModel | None = None
        self.device_use: dict[DeviceUse, int] = {}
        self._initial: Arrays | None = None
        self._experiences: list[Experience] = []

    def submit(self, request: ForgetRequest) -> str:
        """Write a request into the ledger; it is served before the next training round.

        Returns
        -------
        str
            The request's id.
        """
        return self.ledger.receive(request)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> UnlearningResult:
        """Train for some rounds, and serve whatever is queued before, between and after them.

        Parameters
        ----------
        grid : Grid
            The runtime's.
        initial_arrays : ArrayRecord, optional
            The model to start from; needed the first time, and ignored (with a line in the log) where the ledger
            names a served model or an earlier call left one.
        num_rounds : int
            0 only serves the queue.
        timeout : float
            Seconds that each exchange waits for answers.
        train_config, evaluate_config : ConfigRecord, optional
            For the clients, as in Flower.
        evaluate_fn : callable, optional
            Centralised evaluation, as in Flower.

        Returns
        -------
        UnlearningResult
            Its arrays are the last accepted model.

        Raises
        ------
        FedUnlearnError
            If there is no model to start from, or no client answers.
        """
        eligible = self._identified(grid, timeout)
        served = self._served_model(initial_arrays)
        if train_config is not None:
            proximal = {"proximal-mu": self.inner.proximal_mu} if isinstance(self.inner, FedProx) else {}
            served.train_config = ConfigRecord({**train_config, **proximal})
        service = self._service(eligible, served, timeout)
        run = _Run(
            service=service,
            trainer=Trainer(self.inner, eligible, timeout, self.seed),
            result=UnlearningResult(),
            train_config=train_config if train_config is not None else ConfigRecord(),
            evaluate_config=evaluate_config if evaluate_config is not None else ConfigRecord(),
            evaluate_fn=evaluate_fn,
            rounds=num_rounds,
        )
        try:
            self._serve_pending(run)
            if num_rounds:
                self._train(run)
        finally:
            for use, count in eligible.device_use.items():
                self.device_use[use] = self.device_use.get(use, 0) + count
        run.result.arrays = pack(served.arrays)
        return run.result

    def retrain_oracle(self, grid: Grid, request_id: str, timeout: float = 3600) -> OracleOutcome:
        """Repeat all training so far from scratch, without what was forgotten, and audit it for one request.

        Parameters
        ----------
        grid : Grid
        request_id : str
            A request that was served; its D_f can be read only while its holders retain it.
        timeout : float
            Seconds that each exchange waits for answers.

        Raises
        ------
        FedUnlearnError
            If nothing was trained here: the model came from elsewhere.
        """
        if self._initial is None or not self._experiences:
            raise FedUnlearnError(
                "there is no training to repeat: the model was trained elsewhere, so it has no oracle"
            )
        eligible = self._identified(grid, timeout)
        rounds = sum(experience.rounds for experience in self._experiences)
        self.observer(Event("request-step", f"retrain oracle: {rounds} rounds from scratch", request_id=request_id))
        return retrain(
            Trainer(fresh_copy(self.inner), eligible, timeout, self.seed),
            self._initial,
            self._experiences,
            self._auditor(eligible, timeout),
            self.ledger.entry(request_id).request,
            self.ledger.forgotten_classes(),
        )

    # ------------------------------------------------------------------ Flower's Strategy: the inner one's hooks

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's."""
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's."""
        return self.inner.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the configuration, the inner strategy's included."""
        logger.info("ContinualUnlearning around %s, ledger %s", type(self.inner).__name__, self.ledger.path)
        self.inner.summary()

    # ------------------------------------------------------------------ training

    def _train(self, run: _Run) -> None:
        name = f"train:{len(self._experiences) + 1}"
        first = sum(experience.rounds for experience in self._experiences)
        self._experiences.append(Experience(run.rounds, ConfigRecord(dict(run.train_config))))
        self._tell("training-started", f"{name}: {run.rounds} rounds", 0, run.rounds)
        for number in range(1, run.rounds + 1):
            if number > 1 and self.ledger.pending():
                self._accept_training(run, name)
                self._serve_pending(run)
            self._training_round(run, first, number)
        self._accept_training(run, name)
        self._tell("training-finished", name, run.rounds, run.rounds)
        self._serve_pending(run)

    def _training_round(self, run: _Run, first: int, number: int) -> None:
        served = run.service.served
        started = time.perf_counter()
        run.service.rounds.grid.take_traffic()
        last = number == run.rounds
        evaluate = last or number % self.evaluate_every == 0
        outcome = run.trainer.train(
            run.unaccepted if run.unaccepted is not None else served.arrays,
            first + number,
            run.train_config,
            evaluate_config=run.evaluate_config if evaluate else None,
            measure_norms=last or bool(self.ledger.pending()),
        )
        run.unaccepted = outcome.arrays
        served.train_config = outcome.config
        if outcome.update_norms:
            served.update_norm = median(outcome.update_norms)
        if outcome.train_metrics is not None:
            run.result.train_metrics_clientapp[number] = outcome.train_metrics
        if outcome.evaluate_metrics is not None:
            run.result.evaluate_metrics_clientapp[number] = outcome.evaluate_metrics
        if run.evaluate_fn is not None:
            central = run.evaluate_fn(number, pack(outcome.arrays))
            if central is not None:
                run.result.evaluate_metrics_serverapp[number] = central
        run.result.training_seconds += time.perf_counter() - started
        run.result.training_traffic.add(run.service.rounds.grid.take_traffic())
        self._tell("training-round", f"round {number} of {run.rounds}", number, run.rounds)

    def _accept_training(self, run: _Run, name: str) -> None:
        """The gate on ordinary training: what is served next was looked at first."""
        if run.unaccepted is None:
            return
        served = run.service.served
        candidate, run.unaccepted = run.unaccepted, None
        committed = [entry.request for entry in self.ledger.committed()]
        audit = run.service.auditor.audit(pack(candidate), committed)
        forgotten = self.ledger.forgotten_classes()
        accepted = served.audit.parts["validation"].accuracy(without=forgotten) if served.audit else None
        decision = self.gate.decide_training(
            finite=all_finite(candidate),
            retain_accuracy=audit.parts["validation"].accuracy(without=forgotten),
            accepted=accepted,
        )
        if decision.verdict is not Verdict.ACCEPT:
            logger.warning("%s is not served: %s; the last accepted model stays", name, decision.reason)
            self.ledger.note("training-refused", {"experience": name, "reason": decision.reason})
            reset_server_state(self.inner)
            return
        digest = self.checkpoints.save(candidate)
        self.ledger.accept_model(digest, name)
        self.checkpoints.purge({digest})
        served.arrays, served.audit = candidate, audit
        if committed:
            run.result.relapse.append(run.service.relapse_row(name, audit))

    # ------------------------------------------------------------------ requests

    def _serve_pending(self, run: _Run) -> None:
        for entry in self.ledger.pending():
            outcome, relapse = run.service.serve(entry)
            run.result.requests.append(outcome)
            if relapse is not None:
                run.result.relapse.append(relapse)

    def _service(self, grid: EligibleGrid, served: ServedModel, timeout: float) -> RequestService:
        return RequestService(
            rounds=Rounds(grid, timeout, self.seed),
            auditor=self._auditor(grid, timeout),
            ledger=self.ledger,
            checkpoints=self.checkpoints,
            gate=self.gate,
            plan=self.plan,
            observer=self.observer,
            served=served,
            on_commit=lambda: reset_server_state(self.inner),
        )

    def _identified(self, grid: Grid, timeout: float) -> EligibleGrid:
        eligible = EligibleGrid(grid)
        wanted = int(getattr(self.inner, "min_available_nodes", 1))
        eligible.identify(wanted, timeout, self.ledger.confirmed_tombstones())
        return eligible

    def _auditor(self, grid: EligibleGrid, timeout: float) -> Auditor:
        return Auditor(grid, timeout, self.plan.retain_limit, self.seed)

    def _served_model(self, initial_arrays: ArrayRecord | None) -> ServedModel:
        """The model that serves: that of an earlier call, else the ledger's, else the given one."""
        if self.served is not None:
            return self.served
        digest = self.ledger.served_model()
        if digest is not None:
            if initial_arrays is not None:
                logger.info("the ledger's model %s is served; initial_arrays are not used", digest[:12])
            self.served = ServedModel(_ordered(self.checkpoints.load(digest), initial_arrays, self.ledger.path))
            return self.served
        if initial_arrays is None:
            raise FedUnlearnError("there is no model to start from: give initial_arrays, or a ledger that has a model")
        self._initial = unpack(initial_arrays)
        self.served = ServedModel(self._initial)
        self.ledger.accept_model(self.checkpoints.save(self._initial), "initial")
        return self.served

    def _tell(self, kind: str, text: str, step: int, steps: int) -> None:
        self.observer(Event(kind, text, step=step, steps=steps))  # type: ignore[arg-type]


def _ordered(arrays: Arrays, reference: ArrayRecord | None, ledger: Path) -> Arrays:
    """The ledger's model in the order of the given one: Flower's strategies go by position."""
    if reference is None:
        return arrays
    shapes = {name: tuple(array.shape) for name, array in reference.items()}
    if {name: value.shape for name, value in arrays.items()} != shapes:
        raise InvalidModelError(
            f"{ledger}: its model has other arrays than initial_arrays; give it a ledger of its own"
        )
    return {name: arrays[name] for name in shapes}
