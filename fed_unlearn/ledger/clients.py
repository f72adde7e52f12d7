"""The clients in the ledger: their names, confirmed tombstones, departures, and requests owed to them."""

from __future__ import annotations

from collections.abc import Iterable

from fed_unlearn.ledger.entries import RequestRecords


class ClientRecords(RequestRecords):
    """The methods of :class:`~fed_unlearn.ledger.ledger.Ledger` that concern clients."""

    def meet(self, clients: Iterable[str]) -> None:
        """Record the clients that are not known yet."""
        unknown = sorted(set(clients) - set(self.known_clients()))
        if unknown:
            with self.transaction():
                for client in unknown:
                    self._meet(client)

    def known_clients(self) -> list[str]:
        """Names of all clients that were ever met, including those that have left, sorted."""
        return [str(row[0]) for row in self._all("SELECT id FROM clients ORDER BY id")]

    def depart(self, client: str) -> None:
        """Record that a client has left for good. The client may be unknown, or may have left already."""
        with self.transaction():
            if client not in self.departed():
                self._meet(client)
                self._execute("UPDATE clients SET departed = 1 WHERE id = ?", client)
                self._record(None, "client-departed", 0, {"client": self.client_reference(client)})

    def departed(self) -> frozenset[str]:
        """The clients that have left for good."""
        return frozenset(str(row[0]) for row in self._all("SELECT id FROM clients WHERE departed"))

    def confirm_tombstones(self, client: str, digest: str) -> None:
        """Record the tombstone digest that a client has confirmed. The client must show it from now on."""
        with self.transaction():
            self._meet(client)
            self._execute("UPDATE clients SET tombstones = ? WHERE id = ?", digest, client)
            facts = {"client": self.client_reference(client), "digest": digest}
            self._record(None, "tombstones-confirmed", 0, facts)

    def confirmed_tombstones(self) -> dict[str, str]:
        """The tombstone digest that each client last confirmed."""
        rows = self._all("SELECT id, tombstones FROM clients WHERE tombstones IS NOT NULL ORDER BY id")
        return {str(client): str(digest) for client, digest in rows}

    def owe(self, request_id: str, clients: Iterable[str]) -> None:
        """Record that holders could not be reached for a request, so that the request is owed to them.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        """
        with self.transaction():
            for client in sorted(set(clients) - set(self.entry(request_id).owed)):
                self._execute("INSERT INTO owed VALUES (?, ?)", request_id, client)
                self._record(request_id, "owed", 0, {"client": self.client_reference(client)})

    def owed_requests(self, client: str) -> list[str]:
        """Ids of the requests that are owed to a client, in the order in which they were received."""
        rows = self._all(
            "SELECT id FROM requests JOIN owed ON request_id = id WHERE client = ? ORDER BY sequence", client
        )
        return [str(row[0]) for row in rows]

    def settle_owed(self, request_id: str, client: str) -> None:
        """Record that a client has learned of a request. Nothing happens if the request was not owed to it."""
        with self.transaction():
            if request_id in self.owed_requests(client):
                self._execute("DELETE FROM owed WHERE request_id = ? AND client = ?", request_id, client)
                self._record(request_id, "owed-settled", 0, {"client": self.client_reference(client)})

    def _meet(self, client: str) -> None:
        self._execute("INSERT OR IGNORE INTO clients (id) VALUES (?)", client)
