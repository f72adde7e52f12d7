"""One call of a strategy: its grid, and the parts that work together on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedProx

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope
from fed_unlearn.strategies.clients.admission import NobodyThereError
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.clients.exchange import DeviceUse
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.clients.rounds import Rounds, client_of
from fed_unlearn.strategies.inner.kinds import innermost
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.state import fresh_copy, reset_server_state, restore_server_state, server_state
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.plan import is_server_method
from fed_unlearn.strategies.server_methods import ServerWork
from fed_unlearn.strategies.serving.attempt import Attempt, Order
from fed_unlearn.strategies.serving.commit import Committer
from fed_unlearn.strategies.serving.endings import Endings
from fed_unlearn.strategies.serving.figures import Measuring
from fed_unlearn.strategies.serving.holder_attempt import HolderAttempt
from fed_unlearn.strategies.serving.judge import Judge
from fed_unlearn.strategies.serving.relapse import RelapseWatch
from fed_unlearn.strategies.serving.server_attempt import ServerAttempt
from fed_unlearn.strategies.serving.service import RequestService
from fed_unlearn.strategies.serving.withdrawal import Withdrawals
from fed_unlearn.strategies.state import OpenTraining, ServedModel
from fed_unlearn.strategies.timeline import Train
from fed_unlearn.strategies.training.experience import TrainingRun
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.strategies.training.trainer import EvaluateFunction, Trainer

if TYPE_CHECKING:
    from fed_unlearn.strategies.continual import ContinualUnlearning

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


class Session:
    """Puts together what one call of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning` works with.

    Parameters
    ----------
    strategy : ContinualUnlearning
    served : ServedModel
    grid : Grid
        The runtime's.
    timeout : float
        Seconds that each exchange waits for answers.
    evaluate_fn : callable or None
        Centralised evaluation.

    Raises
    ------
    NobodyThereError
        If no node can say which client it is, and none ever could.
    """

    def __init__(
        self,
        strategy: ContinualUnlearning,
        served: ServedModel,
        grid: Grid,
        timeout: float,
        evaluate_fn: EvaluateFunction | None,
    ) -> None:
        plan, ledger = strategy.plan, strategy.ledger
        self._strategy, self._timeout, self._evaluate_fn = strategy, timeout, evaluate_fn
        self.served = served
        self.result = UnlearningResult()
        self.grid = EligibleGrid(
            grid, retries=plan.retries, backoff_seconds=plan.backoff_seconds, arrivals=strategy.arrivals
        )
        self.grid.roster.leaving = self._leaving()
        self._identify(int(getattr(innermost(strategy.inner), "min_available_nodes", 1)))
        self.auditor = Auditor(self.grid, timeout, plan.retain_limit, strategy.seed)
        self._rounds = Rounds(
            self.grid, timeout, strategy.seed, strategy.inner, plan, strategy.state.accountant, strategy.noise_seed
        )
        self._measuring = Measuring(self.auditor, ledger, served)
        self._history = (
            HistoryStore(ledger.path.parent / "history", every=plan.history_every, max_bytes=plan.history_bytes)
            if plan.history_every and not self._rounds.is_private
            else None
        )
        self._committer = Committer(
            rounds=self._rounds,
            ledger=ledger,
            checkpoints=strategy.checkpoints,
            state=strategy.state,
            served=served,
            purge_history=self._history.purge if self._history is not None else lambda: None,
            forget_server_state=lambda: reset_server_state(strategy.inner),
        )
        self._watch = RelapseWatch(
            ledger=ledger,
            measuring=self._measuring,
            judge=Judge(strategy.gate, plan),
            reopens=plan.reopen_relapsed,
            on_row=self.result.relapse.append,
        )
        self._service = self._new_service()

    # ------------------------------------------------------------------ what a call does

    def use_config(self, config: ConfigRecord) -> None:
        """Repair as this training configuration says, until there is a training round."""
        inner = innermost(self._strategy.inner)
        proximal = {"proximal-mu": inner.proximal_mu} if isinstance(inner, FedProx) else {}
        self.served.train_config = ConfigRecord({**config, **proximal})

    def serve_pending(self) -> None:
        """Serve what is queued."""
        self._service.serve_pending()

    def train(self, step: Train, training: OpenTraining) -> None:
        """Train an experience, and serve what is queued between its rounds and after it."""
        strategy = self._strategy
        self._refresh()
        run = TrainingRun(
            trainer=self._trainer(),
            ledger=strategy.ledger,
            checkpoints=strategy.checkpoints,
            state=strategy.state,
            gate=strategy.gate,
            measuring=self._measuring,
            observer=strategy.observer,
            served=self.served,
            result=self.result,
            has_work=self._service.has_work,
            somebody_comes=self._somebody_comes,
            serve_pending=self._service.serve_pending,
            on_accepted=lambda name, audit: self._watch.look(name, audit, may_reopen=True),
            forget_server_state=lambda: reset_server_state(strategy.inner),
            evaluate_config=step.evaluate_config,
            evaluate_fn=self._evaluate_fn,
            evaluate_every=strategy.evaluate_every,
            durable_seconds=strategy.plan.durable_seconds,
        )
        if run.run(training):
            self._service.serve_pending()

    def fresh_trainer(self, accountant: PrivacyAccountant | None = None) -> Trainer:
        """A trainer around a copy of the inner strategy that knows nothing of earlier rounds, and records nothing.

        Parameters
        ----------
        accountant : PrivacyAccountant, optional
            Counts releases with noise; needed where the model may be served.
        """
        strategy = self._strategy
        return Trainer(
            fresh_copy(strategy.inner),
            self.grid,
            self._timeout,
            strategy.seed,
            accountant=accountant,
            noise_seed=strategy.noise_seed,
            max_norm_factor=self._max_norm_factor,
        )

    @contextmanager
    def counting(self, device_use: dict[DeviceUse, int]) -> Iterator[None]:
        """Add where clients computed to a total, whatever happens."""
        try:
            yield
        finally:
            for use, count in self.grid.device_use.items():
                device_use[use] = device_use.get(use, 0) + count

    # ------------------------------------------------------------------ parts

    def _trainer(self) -> Trainer:
        strategy = self._strategy
        return Trainer(
            strategy.inner,
            self.grid,
            self._timeout,
            strategy.seed,
            record=self._history.record if self._history is not None else None,
            accountant=strategy.state.accountant,
            noise_seed=strategy.noise_seed,
            max_norm_factor=self._max_norm_factor,
        )

    @property
    def _max_norm_factor(self) -> float | None:
        """Robust and private strategies bound changes by themselves."""
        return self._strategy.plan.max_norm_factor if self._rounds.trusts_clients else None

    def _new_service(self) -> RequestService:
        strategy = self._strategy
        endings = Endings(
            rounds=self._rounds,
            ledger=strategy.ledger,
            checkpoints=strategy.checkpoints,
            state=strategy.state,
            plan=strategy.plan,
            observer=strategy.observer,
            committer=self._committer,
            served=self.served,
            on_outcome=self.result.requests.append,
            on_commit=lambda name, audit: self._watch.look(name, audit, may_reopen=False),
        )
        return RequestService(
            rounds=self._rounds,
            ledger=strategy.ledger,
            state=strategy.state,
            gate=strategy.gate,
            plan=strategy.plan,
            measuring=self._measuring,
            endings=endings,
            withdrawals=Withdrawals(self._rounds, strategy.ledger, endings),
            served=self.served,
            new_attempt=self._new_attempt,
            keep_inner_state=self._keep_inner_state,
            refresh=self._refresh,
        )

    def _new_attempt(self, order: Order, on_step: Callable[[str], None]) -> Attempt:
        if not is_server_method(order.method):
            return HolderAttempt(order, self._rounds, self.served, self.served.arrays, on_step)
        return ServerAttempt(
            order,
            self._rounds,
            self.served,
            self.served.arrays,
            on_step,
            new_work=lambda reachable: self._work(order, reachable),
            on_state=lambda state: self._strategy.state.save_method_state(state),
            state=self._strategy.state.load_method_state(),
        )

    def _work(self, order: Order, leaving_is_reachable: bool) -> ServerWork:
        strategy, [request] = self._strategy, order.requests
        return ServerWork(
            request=request,
            attempt=order.number,
            seed=strategy.seed,
            served=self.served.arrays,
            initial=strategy.state.initial(),
            experiences=strategy.state.experiences(),
            history=self._history,
            grid=self.grid,
            timeout=self._timeout,
            trainer=self.fresh_trainer(strategy.state.accountant),
            train_config=ConfigRecord({**self.served.train_config, **strategy.plan.repair_config}),
            excluded_classes=order.excluded_classes,
            leaving=client_of(request) if isinstance(request.scope, ClientScope) else None,
            leaving_is_reachable=leaving_is_reachable,
        )

    def _keep_inner_state(self) -> Callable[[], None]:
        inner = self._strategy.inner
        arrays, scalars = server_state(inner)
        return lambda: restore_server_state(inner, arrays, scalars)

    # ------------------------------------------------------------------ clients

    def _refresh(self) -> None:
        if self.grid.has_new_nodes():
            self._identify(1)
        self._watch.catch_up()
        for client in self._committer.settle_debts():
            self._watch.look(f"tombstones:{client}", None, may_reopen=True)

    def _identify(self, min_nodes: int) -> None:
        """Learn who is there. Where clients were met before, those that are not there now are waited for."""
        ledger = self._strategy.ledger
        try:
            self.grid.identify(min_nodes, self._timeout, ledger.confirmed_tombstones(), self._unheard)
        except NobodyThereError as error:
            if not ledger.known_clients():
                raise
            logger.warning("%s", error)
        self._meet(self.grid.roster.clients.values())
        self.grid.roster.known = set(ledger.known_clients()) - ledger.departed()

    def _meet(self, clients: Iterable[str]) -> None:
        """Write down who is there; a client that comes for the first time owes the classes that were forgotten."""
        ledger = self._strategy.ledger
        new = set(clients) - set(ledger.known_clients())
        if not new:
            return
        with ledger.transaction():
            ledger.meet(new)
            for entry in ledger.committed():
                if isinstance(entry.request.scope, ClassScope):
                    ledger.owe(entry.id, new)

    def _unheard(self, client: str) -> list[str]:
        """Requests whose tombstones a client may have written without the server having heard of it."""
        attempt = self._strategy.state.attempt() or {}
        committing: list[str] = list(attempt["requests"]) if "committing" in attempt else []  # type: ignore[call-overload]
        return [*self._strategy.ledger.owed_requests(client), *committing]

    def _somebody_comes(self) -> bool:
        """Whether a client that stays is there, or comes within the time of an exchange."""
        deadline = time.monotonic() + self._timeout
        while not self.grid.connected():
            if time.monotonic() > deadline:
                return False
            if self.grid.has_new_nodes():
                self._refresh()
            time.sleep(_POLL_SECONDS)
        return True

    def _leaving(self) -> set[str]:
        """Clients that are being forgotten, or were."""
        entries = self._strategy.ledger.entries()
        return {
            entry.request.scope.client
            for entry in entries
            if isinstance(entry.request.scope, ClientScope)
            and (entry.attempt > 0 or entry.ever_committed)
            and entry.status not in (Status.REJECTED, Status.WITHDRAWN)
        }
