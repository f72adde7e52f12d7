"""Requests of the owners of clients' data: taken from replies into the ledger, and answered with later messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from flwr.app import RecordDict

from fed_unlearn import protocol
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.ledger.lifecycle import WITHDRAWABLE
from fed_unlearn.owner import OwnerAnswer, QueuedRequest
from fed_unlearn.requests import ClientScope, ForgetRequest, ParameterValue, SampleScope, Scope
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.serving.owner_answers import answer_of
from fed_unlearn.strategies.serving.owner_book import Known, OwnerBook
from fed_unlearn.strategies.serving.owner_receipts import OwnerReceipts

logger = logging.getLogger("fed_unlearn.strategies")

_ANSWER_SECONDS = 30.0  # a node that does not answer, and stays connected, keeps requests waiting so long
_SECONDS_PER_DAY = 86_400.0
_RECEIVED, _REFUSED = "owner-request-received", "owner-request-refused"


@dataclass
class OwnerRequests:
    """Collects what owners have queued at their nodes, and tells the nodes what became of it.

    A node speaks for the client that it was identified as, and for no other. What it asks for is written into the
    ledger once: its id there is made of the client's reference and of the request's id at the node.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext
    _seen: tuple[object, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self._receipts = OwnerReceipts(self.context.ledger, self.context.receipts)

    def collect(self, ask: bool = False) -> list[str]:
        """Write into the ledger what replies have brought since this was last called, and prepare the answers.

        It may be called at any time between rounds. It costs nothing where no owner has ever asked for anything.

        Parameters
        ----------
        ask : bool
            Whether to ask every client now, by ``query.requests``; it is also done where the post says that it is due.
            Else what came with other replies is taken.

        Returns
        -------
        list of str
            Ids, in the ledger, of the requests that are new.
        """
        grid = self.context.grid
        if ask or grid.owners.ask_due:
            grid.owners.ask_due = False
            self._query(sorted({*grid.connected(), *grid.reachable_leavers()}))
        new: list[str] = []
        letters = grid.owners.collected(grid.roster.clients)
        if letters:
            self._seen = ()
        for client, letter in sorted(letters.items()):
            if letter.note is None:
                grid.name(client, f"says what cannot be read of its owner's requests: {letter.problem}")
            else:
                new += self._take(client, letter.note)
        self._prepare_answers()
        return new

    def deliver(self) -> None:
        """Send the answers that are due to the clients that can be reached, without waiting for another message."""
        grid = self.context.grid
        self.collect()
        reachable = {*grid.connected(), *grid.reachable_leavers()}
        due = {grid.roster.clients[node] for node in grid.owners.nodes_to_ask() if node in grid.roster.clients}
        if due & reachable:
            self._query(sorted(due & reachable))
            self.collect()

    def _query(self, clients: Collection[str]) -> None:
        if clients:
            timeout = min(self.context.timeout, _ANSWER_SECONDS)
            self.context.grid.ask(protocol.REQUESTS, RecordDict(), timeout, clients)

    # ------------------------------------------------------------------ what comes

    def _take(self, client: str, note: protocol.OwnerNote) -> list[str]:
        """Write down what one client's owner asks for, all or nothing, and which answers its node has."""
        ledger, new = self.context.ledger, list[str]()
        with ledger.transaction():
            book = OwnerBook.of(ledger, client)
            for item in note.queued:
                known = book.requests.get(item.owner_request)
                if known is None:
                    request_id = self._receive(client, item, book)
                    new += [request_id] if request_id else []
                elif known.request and item.state == "withdrawn":
                    self._withdraw(known.request)
            for name, known in book.requests.items() if note.heard else ():
                if known.told not in note.heard and (digest := self._digest(client, name, known)) in note.heard:
                    known.told = digest
            book.save(ledger)
            self._receipts.note(client, note.heard)
        for request_id in new:
            self.context.tell("request-step", f"the owner of client {client} asks", ledger.entry(request_id).request)
        return new

    def _receive(self, client: str, item: QueuedRequest, book: OwnerBook) -> str:
        """Take one request into the ledger, and return its id there; empty where it is refused, or not looked at."""
        ledger, now = self.context.ledger, time.time()
        if book.refused_since(now - _SECONDS_PER_DAY) >= max(1, self.context.plan.owners.per_day):
            self.context.grid.name(client, "has more requests of its owner refused than a day allows; they wait")
            return ""
        if item.state == "withdrawn":
            book.requests[item.owner_request] = Known(received=now, withdrawn=True)
            return ""
        reason = item.reason or "the node refuses it" if item.state == "refused" else self._problem(client, item, book)
        request_id = ""
        if reason is None:
            try:
                request_id = ledger.receive(self._request(client, item))
            except InvalidRequestError as error:
                reason = str(error)
        if reason is not None:
            logger.warning("client %s: owner's request %s is refused: %s", client, item.owner_request, reason)
            ledger.note(_REFUSED, {"client": client, "owner-request": item.owner_request})
            book.requests[item.owner_request] = Known(received=now, refused=reason)
            return ""
        ledger.note(_RECEIVED, {"client": client, "owner-request": item.owner_request}, request_id)
        book.requests[item.owner_request] = Known(received=now, request=request_id)
        return request_id

    def _problem(self, client: str, item: QueuedRequest, book: OwnerBook) -> str | None:
        """Why a request is not taken into the ledger; None where it is."""
        limits, ledger = self.context.plan.owners, self.context.ledger
        pending = set(ledger.open_ids())
        is_open = sum(known.request in pending for known in book.requests.values())
        if is_open >= limits.open:
            return (
                f"{is_open} requests of this client's owner are open, and {limits.open} are allowed; queue it anew when"
                " one has ended"
            )
        of_the_day = book.received_since(time.time() - _SECONDS_PER_DAY)
        if of_the_day >= limits.per_day:
            return (
                f"{of_the_day} requests of this client's owner came within 24 hours, and {limits.per_day} are allowed;"
                " queue it anew tomorrow"
            )
        held = self.context.grid.roster.class_samples.get(client, ())
        most = sum(held) if item.of_class is None else held[item.of_class] if item.of_class < len(held) else 0
        if item.count > most:
            return f"it names {item.count} samples, and the client said that it holds {most} such samples"
        return None

    def _request(self, client: str, item: QueuedRequest) -> ForgetRequest:
        scope: Scope = ClientScope(client)
        if item.kind != "all":
            scope = SampleScope(client, count=item.count, of_class=item.of_class, queued=item.owner_request)
        parameters: dict[str, ParameterValue] = {} if item.goal is None else {"goal": item.goal}
        request_id = f"owner-{self.context.ledger.client_reference(client)}-{item.owner_request}"
        return ForgetRequest(scope, None, parameters, request_id, deadline=item.deadline)

    def _withdraw(self, request_id: str) -> None:
        """Withdraw a request if that can still be done; else its owner sees how it ends."""
        ledger = self.context.ledger
        entry = ledger.entry(request_id)
        if entry.status in WITHDRAWABLE and not entry.ever_committed:
            ledger.withdraw(request_id)

    # ------------------------------------------------------------------ what goes back

    def _prepare_answers(self) -> None:
        """Put the answers that nodes do not have yet on their next messages."""
        ledger, grid = self.context.ledger, self.context.grid
        if self._state() == self._seen:
            return
        asking = OwnerBook.clients(ledger)
        grid.owners.answers.clear()
        grid.owners.receipts.clear()
        for node, client in grid.roster.clients.items():
            if client not in asking:
                continue
            if due := self._answers_due(client):
                grid.owners.answers[node] = protocol.answers_record(due)
            if node in grid.owners.keepers and (receipts := self._receipts.due(client)):
                grid.owners.receipts[node] = protocol.receipts_record(receipts)
        self._seen = self._state()

    def _state(self) -> tuple[object, ...]:
        """What the answers depend on."""
        grid, owners = self.context.grid, self.context.grid.owners
        nodes = tuple(grid.roster.clients.items())
        return self.context.ledger.head(), self._receipts.changes, nodes, *sorted(owners.answers), *owners.receipts

    def _answers_due(self, client: str) -> list[OwnerAnswer]:
        ledger = self.context.ledger
        return [
            answer_of(ledger, client, owner_request, known)
            for owner_request, known in OwnerBook.of(ledger, client).requests.items()
            if self._digest(client, owner_request, known) != known.told
        ]

    def _digest(self, client: str, owner_request: str, known: Known) -> str:
        """The digest of what the node is to be told of a request."""
        ledger = self.context.ledger
        if not known.request:
            return answer_of(ledger, client, owner_request, known).digest()
        made = self.context.grid.owners.made
        return made.digest(ledger, known.request, lambda: answer_of(ledger, client, owner_request, known))
