"""What the ledger knows of clients: who they are, which tombstones they confirmed, who left, what they are owed."""

from __future__ import annotations

from collections.abc import Iterable

from fed_unlearn.ledger.entries import RequestRecords


class ClientRecords(RequestRecords):
    """The part of the ledger that is about clients; :class:`~fed_unlearn.ledger.ledger.Ledger` is what is used."""

    def meet(self, clients: Iterable[str]) -> None:
        """Write down the clients that are not known yet."""
        unknown = sorted(set(clients) - set(self.known_clients()))
        if unknown:
            with self.transaction():
                for client in unknown:
                    self._meet(client)

    def known_clients(self) -> list[str]:
        """Every client that was ever met, those that left included, by name."""
        return [str(row[0]) for row in self._all("SELECT id FROM clients ORDER BY id")]

    def depart(self, client: str) -> None:
        """Write down that a client has left for good; it need not have been met, and may leave twice."""
        with self.transaction():
            if client not in self.departed():
                self._meet(client)
                self._execute("UPDATE clients SET departed = 1 WHERE id = ?", client)
                self._record(None, "client-departed", 0, {"client": self.client_reference(client)})

    def departed(self) -> frozenset[str]:
        """The clients that have left for good."""
        return frozenset(str(row[0]) for row in self._all("SELECT id FROM clients WHERE departed"))

    def confirm_tombstones(self, client: str, digest: str) -> None:
        """Record the tombstone digest that a client has confirmed; it must show it from now on."""
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
        """Write down that holders could not be reached for a request: they have yet to learn of it.

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
        """The requests that a client has yet to learn of, in the order in which they came."""
        rows = self._all(
            "SELECT id FROM requests JOIN owed ON request_id = id WHERE client = ? ORDER BY sequence", client
        )
        return [str(row[0]) for row in rows]

    def settle_owed(self, request_id: str, client: str) -> None:
        """Write down that a client has learned of a request; nothing happens where it was not owed."""
        with self.transaction():
            if request_id in self.owed_requests(client):
                self._execute("DELETE FROM owed WHERE request_id = ? AND client = ?", request_id, client)
                self._record(request_id, "owed-settled", 0, {"client": self.client_reference(client)})

    def _meet(self, client: str) -> None:
        self._execute("INSERT OR IGNORE INTO clients (id) VALUES (?)", client)
