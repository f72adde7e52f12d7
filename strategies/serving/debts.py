"""Tombstones that are still owed when a run ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.serving.service import RequestService

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.5
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True)
class Debts:
    """Has clients write what they owe before a run ends, and says what is owed after that.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    service : RequestService
        Looks for clients that have come, and serves what their samples bring back.
    """

    context: CallContext
    service: RequestService

    def settle(self, *, waits: bool) -> None:
        """Have the tombstones written that are owed, where the clients can be reached.

        Parameters
        ----------
        waits : bool
            Whether clients that are away are waited for, as long as the plan says. On a grid that answers at once
            nobody comes meanwhile, and who comes wakes a server that stays: there nobody is waited for.
        """
        first = owed = self._owed()
        if not owed:
            return
        deadline = time.monotonic() + self.context.plan.retry.return_seconds
        pause = next_try = 0.0
        while True:
            if time.monotonic() >= next_try:
                self.service.refresh()
                owed = self._owed()
                pause = min(_LONGEST_PAUSE, 2 * pause or _POLL_SECONDS)
                next_try = time.monotonic() + pause
            if not owed or not waits or not self.context.grid.can_wait or time.monotonic() >= deadline:
                break
            self.context.grid.obey()
            time.sleep(_POLL_SECONDS)
        for client, requests in owed.items():
            logger.warning(
                "client %s still owes its tombstones of requests %s: it is in no training until it has written them",
                client,
                ", ".join(requests),
            )
        if owed != first and self.context.state.load_training() is None:
            self.service.serve_pending()

    def _owed(self) -> Mapping[str, Sequence[str]]:
        ledger = self.context.ledger
        departed = ledger.departed()
        return {client: requests for client, requests in ledger.owed().items() if client not in departed}
