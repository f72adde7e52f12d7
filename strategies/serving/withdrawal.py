"""What follows a withdrawal: clients that know of the request are told, and use its samples again."""

from __future__ import annotations

from dataclasses import dataclass, field

from fed_unlearn import protocol
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.strategies.clients.rounds import Rounds, client_of
from fed_unlearn.strategies.serving.endings import Endings


@dataclass(frozen=True)
class Withdrawals:
    """Tells clients of withdrawn requests, each as soon as it can be reached.

    Attributes
    ----------
    rounds, ledger, endings
        What it works with.
    """

    rounds: Rounds
    ledger: Ledger
    endings: Endings
    _told: dict[str, set[str]] = field(default_factory=dict)

    def has_work(self) -> bool:
        """Whether there is somebody to be told, or nobody left to be."""
        return any(self._to_be_told(entry) or self._is_known(entry) for entry in self.ledger.release_due())

    def tell(self) -> bool:
        """Tell whoever can be reached; whether some request is done with: all who may know of it were told."""
        done = False
        for entry in self.ledger.release_due():
            if clients := self._to_be_told(entry):
                answers = self.rounds.settle(
                    protocol.DISCARD,
                    [entry.request],
                    {entry.id: entry.attempt},
                    release=True,
                    clients=sorted(clients),
                )
                self._told.setdefault(entry.id, set()).update(answers.replies)
            if self._is_known(entry):
                self.ledger.released(entry.id)
                self.endings.stay(entry.request)
                done = True
        return done

    def _is_known(self, entry: LedgerEntry) -> bool:
        return self._who_may_know(entry) <= self._told.get(entry.id, set())

    def _to_be_told(self, entry: LedgerEntry) -> set[str]:
        grid = self.rounds.grid
        reachable = {*grid.connected(), *grid.reachable_leavers()}
        return (self._who_may_know(entry) & reachable) - self._told.get(entry.id, set())

    def _who_may_know(self, entry: LedgerEntry) -> set[str]:
        """Clients that may have quarantined something for a request: none before its first attempt."""
        client, roster = client_of(entry.request), self.rounds.grid.roster
        if not entry.attempt:
            return set()
        return {client} if client is not None else roster.known - roster.leaving
