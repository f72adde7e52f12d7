"""What the ledger knows of clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.ledger.entries import RequestRecords
from fed_unlearn.text import quoted

Claims = dict[str, int | list[int]]
"""What a client identified with: counts by name."""


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

    def owed(self) -> dict[str, tuple[str, ...]]:
        """Ids of the requests that are owed, by client, in the order in which they were received."""
        rows = self._all(
            "SELECT client, id FROM owed JOIN requests ON request_id = id ORDER BY client, requests.sequence"
        )
        found: dict[str, tuple[str, ...]] = {}
        for client, request_id in rows:
            found[str(client)] = (*found.get(str(client), ()), str(request_id))
        return found

    def settle_owed(self, request_id: str, client: str) -> None:
        """Record that a client has learned of a request. Nothing happens if the request was not owed to it."""
        with self.transaction():
            if request_id in self.owed_requests(client):
                self._execute("DELETE FROM owed WHERE request_id = ? AND client = ?", request_id, client)
                self._record(request_id, "owed-settled", 0, {"client": self.client_reference(client)})

    def _meet(self, client: str) -> None:
        self._execute("INSERT OR IGNORE INTO clients (id) VALUES (?)", client)

    def bind_client(self, client: str, key: str) -> None:
        """Bind a client's id to the key that showed it first. Nothing happens if it is bound to that key already.

        Parameters
        ----------
        client : str
            The client's id.
        key : str
            SHA-256 of the node's public key, in hexadecimal.

        Raises
        ------
        InvalidParameterError
            If the id is bound to another key.
        """
        with self.transaction():
            known = self.client_key(client)
            if known not in (None, key):
                raise InvalidParameterError(
                    f"client {quoted(client)} is bound to the key {str(known)[:12]}, and {quoted(key[:12])} was given;"
                    " if its machine has changed, rebind it"
                )
            if known is None:
                self._set_key(client, key)

    def client_key(self, client: str) -> str | None:
        """The key that a client's id is bound to. None if it is bound to none, or the client is unknown."""
        row = self._first("SELECT key FROM clients WHERE id = ?", client)
        return None if row is None or row[0] is None else str(row[0])

    def rebind_client(self, client: str, key: str | None) -> None:
        """Bind a known client's id to another key, for instance because its machine has changed.

        Parameters
        ----------
        client : str
            The client's id.
        key : str or None
            SHA-256 of the new public key, in hexadecimal. If None, the next key that shows the id is taken.

        Raises
        ------
        FedUnlearnError
            If the client was never met.
        """
        with self.transaction():
            if self._first("SELECT 1 FROM clients WHERE id = ?", client) is None:
                raise FedUnlearnError(
                    f"client {quoted(client)} is not in the ledger {self.path}; give the id of a client that was met"
                )
            if self.client_key(client) != key:
                self._set_key(client, key)

    def note_claims(self, client: str, claims: Mapping[str, int | list[int]]) -> None:
        """Keep what a client identified with. It replaces what was kept before.

        Parameters
        ----------
        client : str
            The client's id.
        claims : mapping of str to int or list of int
            Counts by name, for instance of samples.
        """
        text = json.dumps(dict(claims), sort_keys=True)
        if self._claims_text(client) == text:
            return
        with self.transaction():
            self._meet(client)
            self._execute("UPDATE clients SET claims = ? WHERE id = ?", text, client)

    def claims_of(self, client: str) -> Claims | None:
        """What a client last identified with. None if nothing was kept."""
        text = self._claims_text(client)
        claims: Claims | None = None if text is None else json.loads(text)
        return claims

    def _claims_text(self, client: str) -> str | None:
        row = self._first("SELECT claims FROM clients WHERE id = ?", client)
        return None if row is None or row[0] is None else str(row[0])

    def _set_key(self, client: str, key: str | None) -> None:
        self._meet(client)
        self._execute("UPDATE clients SET key = ? WHERE id = ?", key, client)
        self._record(None, "client-bound", 0, {"client": self.client_reference(client), "key": key})
