"""What each call of a strategy works with: the served model, the clients, and what is kept on disk."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies.clients.book import ClientBook
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.context import CallContext, Observer
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.inner.kinds import InnerKind
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.receipt_folder import ReceiptFolder
from fed_unlearn.strategies.serving.service import RequestService
from fed_unlearn.strategies.state import ServedModel
from fed_unlearn.strategies.training.history import HistoryStore


class CallContexts:
    """Makes the context of each call of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning`.

    Attributes
    ----------
    inner, ledger, gate, plan, checkpoints, state, seed, noise_seed, observer
        As in :class:`~fed_unlearn.strategies.context.CallContext`.
    arrivals : dict of str to ConfigRecord
        Record of the samples that arrive over time, by client.
    served : ServedModel or None
        The model of an earlier call in this process.
    receipts : ReceiptFolder or None
        Receipts of requests that ended; None where none are wanted.
    """

    inner: Strategy
    ledger: Ledger
    gate: Gate
    plan: UnlearningPlan
    checkpoints: CheckpointStore
    state: DurableState
    seed: int
    noise_seed: int
    observer: Observer | None
    arrivals: Mapping[str, ConfigRecord]
    served: ServedModel | None
    receipts: ReceiptFolder | None
    _kind: InnerKind

    def _context(self, grid: Grid, initial_arrays: ArrayRecord | None, timeout: float) -> CallContext:
        plan, folder = self.plan, self.ledger.path.parent / "history"
        keeps = plan.history.every and not self._kind.is_private
        return CallContext(
            inner=self.inner,
            kind=self._kind,
            ledger=self.ledger,
            checkpoints=self.checkpoints,
            state=self.state,
            gate=self.gate,
            plan=plan,
            served=self._serve(initial_arrays),
            grid=self._eligible(grid),
            timeout=timeout,
            history=HistoryStore(folder, every=plan.history.every, max_bytes=plan.history.max_bytes) if keeps else None,
            seed=self.seed,
            noise_seed=self.noise_seed,
            observer=self.observer,
            receipts=self.receipts,
        )

    def _eligible(self, grid: Grid) -> EligibleGrid:
        """The clients of a runtime's grid; those of a server that stays are known already."""
        if isinstance(grid, EligibleGrid):
            return grid
        rounds = sum(experience.rounds for experience in self.state.experiences())
        book = ClientBook(self.ledger)
        return EligibleGrid(grid, retry=self.plan.retry, arrivals=self.arrivals, book=book, rounds=rounds)

    def _identified(self, grid: Grid, timeout: float) -> CallContext:
        context = self._context(grid, None, timeout)
        RequestService(context).identify_clients()
        return context

    @property
    def _min_nodes(self) -> int:
        return self._kind.min_available_nodes

    def _serve(self, initial_arrays: ArrayRecord | None) -> ServedModel:
        """The model that serves: that of an earlier call, else the ledger's, else the given one."""
        if self.served is None:
            self.served = self.state.serve(initial_arrays)
        return self.served
