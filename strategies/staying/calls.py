"""The call that makes a strategy stay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fed_unlearn.plan import ServeSettings
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.staying.server import StayingServer
from fed_unlearn.strategies.timeline import Forget, Train
from fed_unlearn.strategies.timeline_run import Runner
from fed_unlearn.strategies.training.trainer import EvaluateFunction


class StayingCalls(Runner):
    """The call of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning` that stays."""

    waits_for_debts: bool = True

    @abstractmethod
    def _eligible(self, grid: Grid) -> EligibleGrid:
        """The clients of a runtime's grid."""

    @property
    @abstractmethod
    def _min_nodes(self) -> int:
        """Number of nodes that training waits for."""

    def serve(
        self,
        grid: Grid,
        timeline: Sequence[Train | Forget] = (),
        initial_arrays: ArrayRecord | None = None,
        timeout: float = 3600,
        evaluate_fn: EvaluateFunction | None = None,
        on_entry: Callable[[int, UnlearningResult], None] | None = None,
        *,
        on_turn: Callable[[UnlearningResult], None] | None = None,
        settings: ServeSettings | None = None,
    ) -> UnlearningResult:
        """Run a timeline, and then stay: serve every request that comes, until the order to stop.

        The server sleeps until the ledger, a node or the clock has something. It asks only new nodes who they are. What
        an earlier process has done of the timeline is not repeated. Clients that are away or fail do not end it: it
        says so and tries again. SIGTERM, SIGINT and ``fed-unlearn serve --stop`` end it in order. Whatever it was doing
        goes on at the next start.

        Parameters
        ----------
        grid : Grid
            Grid of the runtime.
        timeline : sequence of Train or Forget
            Entries in order. Training with ``not_before`` waits for its time, and the server serves meanwhile.
        initial_arrays : ArrayRecord, optional
            The model to start from. It is needed the first time, and not used where a model serves already.
        timeout : float
            Seconds that each exchange waits for answers.
        evaluate_fn : callable, optional
            Centralised evaluation, as in Flower.
        on_entry : callable, optional
            Called with the index and the result of each entry that was run here.
        on_turn : callable, optional
            Called with the result of everything that was done between two sleeps.
        settings : ServeSettings, optional
            How often the server looks for work, and the port of its figures.

        Returns
        -------
        UnlearningResult
            What was done until the stop; its arrays are the last accepted model.

        Raises
        ------
        FedUnlearnError
            If there is no model to start from, another process works on the ledger, or the ledger or the disk cannot be
            used.

        Examples
        --------
        >>> strategy.serve(grid, [Train(rounds=10)], initial_arrays=arrays)  # doctest: +SKIP
        """
        server = StayingServer(
            runner=self,
            grid=self._eligible(grid),
            runtime=grid,
            timeline=timeline,
            initial_arrays=initial_arrays,
            timeout=timeout,
            evaluate_fn=evaluate_fn,
            on_entry=on_entry,
            on_turn=on_turn,
            settings=settings or ServeSettings(),
            min_nodes=self._min_nodes,
        )
        return server.run()
