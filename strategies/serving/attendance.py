"""Clients over time: who is there, who owes tombstones, and who is still to be told of withdrawals."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fed_unlearn import protocol
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest
from fed_unlearn.shapes import shapes_of
from fed_unlearn.strategies.clients.book import ClientBook
from fed_unlearn.strategies.clients.messages.runtime import NobodyThereError
from fed_unlearn.strategies.clients.rounds import Rounds, client_of
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.state import OpenCommit, owe_look

_ANSWER_SECONDS = 120.0
"""A server that stays waits so long for a node to say who it is: a connected node may never answer."""

logger = logging.getLogger("fed_unlearn.strategies")


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
        timeout = self.context.timeout if grid.can_wait else min(self.context.timeout, _ANSWER_SECONDS)
        try:
            served = shapes_of(self.context.served.arrays)
            grid.identify(min_nodes, timeout, ledger.confirmed_tombstones(), self._unheard, served)
        except NobodyThereError as error:
            if not ledger.known_clients():
                raise
            logger.warning("%s", error)
        self._meet(set(grid.roster.clients.values()))
        ClientBook(ledger).note_clients(grid.roster)
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

    def _unheard(self, client: str) -> list[protocol.RequestName]:
        """Requests whose tombstones a client may have written without the server having heard of it."""
        ledger, work = self.context.ledger, self.context.state.open_work()
        committing = work.requests if isinstance(work, OpenCommit) else ()
        names = dict.fromkeys((*ledger.owed_requests(client), *committing))
        return [protocol.RequestName.naming(ledger.entry(name).request) for name in names]


def leaving_clients(ledger: Ledger) -> set[str]:
    """Clients that are being forgotten, or were."""
    return {
        entry.request.scope.client
        for entry in ledger.entries()
        if isinstance(entry.request.scope, ClientScope)
        and (entry.attempt > 0 or entry.ever_committed)
        and entry.status not in (Status.REJECTED, Status.WITHDRAWN)
    }


class CommitFailedError(Exception):
    """Some holder did not confirm its tombstones, and others have theirs; the text says which."""


@dataclass(frozen=True)
class Tombstones:
    """Has clients write tombstones, and remembers which they have and which they owe.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def confirm(
        self,
        requests: Sequence[ForgetRequest],
        attempts: Mapping[str, int],
        holders: Mapping[str, Collection[str]],
    ) -> tuple[set[str], dict[str, set[str]]]:
        """Have tombstones written, and asks once more where a holder is missing.

        Parameters
        ----------
        requests : sequence of ForgetRequest
            The requests that are committed.
        attempts : mapping of str to int
            Number of a request's attempt, by request.
        holders : mapping of str to collection of str
            Clients that must have a request's tombstones before the commit, by request. Those of a client that is
            forgotten do not count: it never trains again, whatever it writes down.

        Returns
        -------
        tuple of (set of str) and (dict of str to set of str)
            Clients that have them; and by request, its holders that did not answer.

        Raises
        ------
        CommitFailedError
            If a holder answers, and does not confirm its tombstones.
        """
        context = self.context
        leaving = {request.id for request in requests if isinstance(request.scope, ClientScope)}
        bound = {name: set(clients) for name, clients in holders.items() if name not in leaving}
        missing = set[str]().union(*bound.values())
        confirmed: set[str] = set()
        for _ in range(2):
            answers = Rounds(context).settle(protocol.CONFIRM, requests, attempts)
            with context.ledger.transaction():
                for client in answers.replies:
                    context.ledger.confirm_tombstones(client, context.grid.roster.tombstones[client])
            confirmed.update(answers.replies)
            missing -= confirmed
            if not missing:
                break
        refusing = sorted(missing & {*answers.failed, *answers.refused})
        if refusing:
            raise CommitFailedError(f"clients {', '.join(refusing)} did not confirm their tombstones")
        return confirmed, {name: clients & missing for name, clients in bound.items()}

    def note_debts(
        self, requests: Sequence[ForgetRequest], away: Collection[str], silent: Mapping[str, Collection[str]]
    ) -> None:
        """Note the clients that left, and those that owe tombstones: they are in no round until they have them.

        Parameters
        ----------
        requests : sequence of ForgetRequest
            The requests that are committed.
        away : collection of str
            Clients that could not be asked, and so may hold samples of class requests.
        silent : mapping of str to collection of str
            Holders of a request that did not answer, by request.
        """
        ledger, grid = self.context.ledger, self.context.grid
        staying = set(grid.roster.staying.values())
        absent = {*away, *(set(ledger.known_clients()) - staying)} - ledger.departed()
        undecided = [*ledger.pending(), *ledger.release_due()]
        may_stay = {client_of(entry.request) for entry in undecided if isinstance(entry.request.scope, ClientScope)}
        for request in requests:
            owing = set(silent.get(request.id, ()))
            match request.scope:
                case ClientScope(client=client):
                    ledger.depart(client)
                case ClassScope():
                    owing |= absent - (grid.roster.leaving - may_stay)
            if owing:
                ledger.owe(request.id, owing)
                logger.warning("request %s: clients %s owe their tombstones", request.id, ", ".join(sorted(owing)))
            for client in owing & set(grid.roster.staying.values()):
                grid.bar(client, "it owes tombstones")

    def settle_debts(self) -> list[str]:
        """Have clients that were away write the tombstones that they owe; those that do not are left out.

        Clients that owe the same are asked together.

        Returns
        -------
        list of str
            Clients that had something to write, and did.
        """
        ledger, grid = self.context.ledger, self.context.grid
        owing: dict[tuple[str, ...], list[str]] = {}
        for client in grid.roster.staying.values():
            if owed := tuple(ledger.owed_requests(client)):
                owing.setdefault(owed, []).append(client)
        settled: list[str] = []
        for owed, clients in owing.items():
            entries = [ledger.entry(name) for name in owed]
            requests, attempts = [entry.request for entry in entries], {entry.id: entry.attempt for entry in entries}
            answers = Rounds(self.context).settle(protocol.CONFIRM, requests, attempts, clients=clients)
            with ledger.transaction():
                for client in answers.replies:
                    ledger.confirm_tombstones(client, grid.roster.tombstones[client])
                    for name in owed:
                        ledger.settle_owed(name, client)
                    owe_look(ledger, f"tombstones:{client}", may_reopen=True)
            settled += answers.replies
            for client in clients:
                if client not in answers.replies and client in grid.roster.staying.values():
                    grid.bar(client, "it owes tombstones and does not confirm them")
        return settled


@dataclass(frozen=True)
class Withdrawals:
    """Tells clients of withdrawn requests as soon as each can be reached; they use the samples again.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext
    _informed: dict[str, set[str]] = field(default_factory=dict, init=False)

    def has_work(self) -> bool:
        """Whether there is somebody to be told, or nobody left to be."""
        due = self.context.ledger.release_due()
        return any(self._to_be_told(entry) or self._everybody_knows(entry) for entry in due)

    def tell(self) -> bool:
        """Tell whoever can be reached.

        Returns
        -------
        bool
            Whether some request is done with: all clients that may know of it were told.
        """
        done = False
        for entry in self.context.ledger.release_due():
            if clients := self._to_be_told(entry):
                answers = Rounds(self.context).settle(
                    protocol.DISCARD,
                    [entry.request],
                    {entry.id: entry.attempt},
                    release=True,
                    clients=sorted(clients),
                )
                self._informed.setdefault(entry.id, set()).update(answers.replies)
            if self._everybody_knows(entry):
                self.context.ledger.released(entry.id)
                self.context.grid.roster.take_back(entry.request)
                done = True
        return done

    def _everybody_knows(self, entry: LedgerEntry) -> bool:
        return self._who_may_know(entry) <= self._informed.get(entry.id, set())

    def _to_be_told(self, entry: LedgerEntry) -> set[str]:
        grid = self.context.grid
        reachable = {*grid.connected(), *grid.reachable_leavers()}
        return (self._who_may_know(entry) & reachable) - self._informed.get(entry.id, set())

    def _who_may_know(self, entry: LedgerEntry) -> set[str]:
        """Clients that may have quarantined something for a request: none before its first attempt."""
        client, roster = client_of(entry.request), self.context.grid.roster
        if not entry.attempt:
            return set()
        return {client} if client is not None else roster.known - roster.leaving
