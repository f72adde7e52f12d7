"""Who is there: clients that are met for the first time, come back, leave, or are waited for."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope
from fed_unlearn.strategies.clients.admission import NobodyThereError
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.state import OpenCommit

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Presence:
    """Identifies clients, and writes into the ledger whom the server has met.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def identify(self, min_nodes: int) -> None:
        """Learn who is there. Where clients were met before, those that are not there now are waited for.

        Parameters
        ----------
        min_nodes : int
            Number of nodes to wait for.

        Raises
        ------
        NobodyThereError
            If no node can say which client it is, and none ever could.
        """
        ledger, grid = self.context.ledger, self.context.grid
        try:
            grid.identify(min_nodes, self.context.timeout, ledger.confirmed_tombstones(), self._unheard)
        except NobodyThereError as error:
            if not ledger.known_clients():
                raise
            logger.warning("%s", error)
        self._meet(set(grid.roster.clients.values()))
        grid.roster.known = set(ledger.known_clients()) - ledger.departed()

    def refresh(self) -> None:
        """Identify nodes that have come since, if there are any."""
        if self.context.grid.has_new_nodes():
            self.identify(1)

    def _meet(self, clients: set[str]) -> None:
        """Write down who is there; a client that comes for the first time owes the classes that were forgotten."""
        ledger = self.context.ledger
        new = clients - set(ledger.known_clients())
        if not new:
            return
        with ledger.transaction():
            ledger.meet(new)
            for entry in ledger.committed():
                if isinstance(entry.request.scope, ClassScope):
                    ledger.owe(entry.id, new)

    def _unheard(self, client: str) -> list[str]:
        """Requests whose tombstones a client may have written without the server having heard of it."""
        work = self.context.state.open_work()
        committing = work.requests if isinstance(work, OpenCommit) else ()
        return [*self.context.ledger.owed_requests(client), *committing]


def leaving_clients(ledger: Ledger) -> set[str]:
    """Clients that are being forgotten, or were."""
    return {
        entry.request.scope.client
        for entry in ledger.entries()
        if isinstance(entry.request.scope, ClientScope)
        and (entry.attempt > 0 or entry.ever_committed)
        and entry.status not in (Status.REJECTED, Status.WITHDRAWN)
    }
