"""The retrain oracle: the same training from scratch without all that was forgotten so far (the gold standard)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fed_unlearn.arrays import unpack
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.protocol.instructions import arrived_of
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.audit import Auditor, limits_of
from fed_unlearn.strategies.context import CallContext, Event
from fed_unlearn.strategies.outcomes import OracleOutcome
from fed_unlearn.strategies.training.retraining import Retraining


def train_oracles(context: CallContext, requests: Sequence[ForgetRequest]) -> dict[str, OracleOutcome]:
    """Repeat all experiences: same rounds, same seeds of data order, same hyper-parameters, retained data only.

    Parameters
    ----------
    context : CallContext
        What the call works with, its clients identified.
    requests : sequence of ForgetRequest
        Requests that were served, which the oracle is held against; at least one.

    Returns
    -------
    dict of str to OracleOutcome
        Outcome of the oracle, by request.

    Raises
    ------
    FedUnlearnError
        If nothing was trained here: the model came from elsewhere.
    """
    arrays, experiences = context.state.initial(), context.state.experiences()
    if arrays is None or not experiences:
        raise FedUnlearnError("there is no training to repeat: the model was trained elsewhere, so it has no oracle")
    rounds = sum(experience.rounds for experience in experiences)
    context.notify(Event("request-step", f"retrain oracle: {rounds} rounds from scratch", request_id=requests[0].id))
    context.grid.take_traffic()
    started = time.perf_counter()
    arrays = Retraining(context, arrays).catch_up()
    seconds = time.perf_counter() - started
    traffic = context.grid.take_traffic()
    audit = Auditor(context).audit(arrays, requests, arrived=arrived_of(experiences[-1].train_config))
    forgotten = context.ledger.forgotten_classes()
    return {
        request.id: OracleOutcome(
            figures=audit.figures(request, forgotten, limits=limits_of(context.plan), is_oracle=True),
            seconds=seconds,
            traffic=traffic,
            arrays=arrays,
        )
        for request in requests
    }


class OracleCalls(ABC):
    """The calls of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning` that train the retrain oracle."""

    ledger: Ledger

    @abstractmethod
    def _identified(self, grid: Grid, timeout: float) -> CallContext:
        """What a call works with, its clients identified."""

    def retrain_oracle(self, grid: Grid, request_id: str, timeout: float = 3600) -> OracleOutcome:
        """As :meth:`retrain_oracles`, for one request."""
        return self.retrain_oracles(grid, [request_id], timeout)[request_id]

    def retrain_oracles(
        self, grid: Grid, request_ids: Sequence[str], timeout: float = 3600
    ) -> dict[str, OracleOutcome]:
        """Repeat all training so far from scratch, without what was forgotten, and audit it for some requests.

        Parameters
        ----------
        grid : Grid
            Grid of the runtime.
        request_ids : sequence of str
            Requests that were served together. Their D_f can be read only while its holders retain it.
        timeout : float
            Seconds that each exchange waits for answers.

        Raises
        ------
        FedUnlearnError
            If nothing was trained here: the model came from elsewhere.
        """
        requests = [self.ledger.entry(request_id).request for request_id in request_ids]
        return train_oracles(self._identified(grid, timeout), requests)

    def retraining(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        *,
        seed: int,
        config: Mapping[str, int] | None = None,
        timeout: float = 3600,
    ) -> Retraining:
        """Begin an oracle that is not audited and may have other draws than the run, to compare with several of them.

        Parameters
        ----------
        grid : Grid
            Grid of the runtime.
        initial_arrays : ArrayRecord
            The model that it begins with.
        seed : int
            Seed of the strategy's sampling of clients.
        config : mapping, optional
            What replaces values of the configuration of every round, such as the seed that clients draw by.
        timeout : float
            Seconds that each exchange waits for answers.
        """
        return Retraining(self._identified(grid, timeout), unpack(initial_arrays), seed=seed, config=config)
