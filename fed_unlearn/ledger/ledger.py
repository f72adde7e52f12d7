"""The ledger: forget requests, the steps that they take, and the accepted models."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fed_unlearn.errors import InvalidParameterError, InvalidRequestError
from fed_unlearn.ledger.chain import Fact, reference
from fed_unlearn.ledger.clients import ClientRecords
from fed_unlearn.ledger.lifecycle import FINAL, WITHDRAWABLE, Status, check_transition
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.scopes import refuse_pairs


class Ledger(ClientRecords):
    """Requests, every step that they take, clients, and accepted models, in one SQLite file.

    Several processes may use one file at once, each with its own ``Ledger``. They wait for each other. A ``Ledger``
    can be used only in the thread that made it.

    Parameters
    ----------
    path : str or Path
        The file. It is made, with its folder, if it does not exist.
    create : bool, default True
        Whether to make a missing file. If false, the file must be a ledger already.
    key : str or Path, optional
        The file that holds the key of its seals. The default stands beside the ledger: ``ledger.key`` for
        ``ledger.db``. It is made with the ledger and must be kept, best where those who could edit the ledger cannot
        read it.

    Attributes
    ----------
    path, key_file : Path
        The file, and that of its key.
    identity : str
        UUID of the ledger, made with the file.

    Raises
    ------
    FedUnlearnError
        If the file is not a ledger, or is a ledger of a newer version. If its key is missing.
    """

    def receive(self, request: ForgetRequest) -> str:
        """Record a request. It is never lost from here on.

        The id stays in the chain of events for ever, so it must not name a person.

        Returns
        -------
        str
            The id: the given one, or else ``r1``, ``r2``, … in order. A request that is in the ledger already is not
            changed, and keeps its priority and deadline.

        Raises
        ------
        InvalidRequestError
            If the id is taken by a request that asks for something else, or classes of single tasks are asked for.
        """
        refuse_pairs(request.scope)
        with self.transaction():
            sequence = int(self._one("SELECT COALESCE(MAX(sequence), 0) + 1 FROM requests")[0])
            request_id = request.id or self._unused_id(sequence)
            known = self._first("SELECT body FROM requests WHERE id = ?", request_id) if request.id else None
            if known is not None:
                if not ForgetRequest.from_json(known[0]).asks_the_same(request):
                    raise InvalidRequestError(
                        f"request {request_id!r} is in the ledger already and asks for something else; use a new id"
                    )
                return request_id
            body = replace(request, id=request_id).to_json()
            self._execute(
                "INSERT INTO requests (sequence, id, body, received, status, attempt, priority, deadline)"
                " VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
                *(sequence, request_id, body, time.time(), Status.RECEIVED, request.priority, request.deadline),
            )
            self._record(request_id, Status.RECEIVED, 0, {"request": reference(self._key.references, body)})
        return request_id

    def advance(
        self,
        request_id: str,
        status: Status,
        *,
        attempt: int,
        reason: str | None = None,
        facts: Mapping[str, Fact] | None = None,
        method: str | None = None,
    ) -> None:
        """Take a request one step further.

        Parameters
        ----------
        request_id : str
            Id of the request.
        status : Status
            New status of the request.
        attempt : int
            Number of the attempt.
        reason : str, optional
            Kept with the request until its next step. It is not in the event.
        facts : mapping of str to str, int, float, bool or None, optional
            Details of the event, as in :meth:`note`.
        method : str, optional
            The method in use from now on. It does not change if none is given.

        Raises
        ------
        TransitionError
            If the new status cannot follow the present one.
        InvalidRequestError
            If the ledger has no such request.
        """
        self.advance_all([request_id], status, attempt=attempt, reason=reason, facts=facts, method=method)

    def advance_all(
        self,
        request_ids: Iterable[str],
        status: Status,
        *,
        attempt: int | Mapping[str, int],
        reason: str | None = None,
        facts: Mapping[str, Fact] | None = None,
        method: str | None = None,
    ) -> None:
        """Take several requests one step further, all or none.

        ``attempt`` is the number of all requests, or a mapping from each request's id to its number. The other
        parameters and the errors are those of :meth:`advance`.
        """
        with self.transaction():
            for request_id in request_ids:
                number = attempt if isinstance(attempt, int) else attempt[request_id]
                self._advance(request_id, status, number, reason, facts or {}, method)

    def commit(self, outcomes: Mapping[str, Mapping[str, object]], digest: str, *, attempts: Mapping[str, int]) -> None:
        """Commit requests and record the model that results, in one transaction.

        Parameters
        ----------
        outcomes : mapping of str to mapping
            Figures of each request by its id. They must be writable as JSON.
        digest : str
            The model's digest in the checkpoint store.
        attempts : mapping of str to int
            Attempt number of each request by its id.

        Raises
        ------
        TransitionError
            If a request's status is not ``committing``.
        """
        with self.transaction():
            for request_id, outcome in outcomes.items():
                self._end(request_id, Status.COMMITTED, attempts[request_id], None, outcome)
            self.accept_model(digest, "+".join(outcomes))

    def finish(
        self, request_id: str, status: Status, *, attempt: int, reason: str, outcome: Mapping[str, object]
    ) -> None:
        """End a request as failed or rejected, with its figures.

        Raises
        ------
        InvalidParameterError
            If the status is neither failed nor rejected.
        TransitionError
            If the new status cannot follow the present one.
        """
        if status not in (Status.FAILED, Status.REJECTED):
            raise InvalidParameterError(f"request {request_id}: status {status} was given; expected failed or rejected")
        with self.transaction():
            self._end(request_id, status, attempt, reason, outcome)

    def withdraw(self, request_id: str) -> None:
        """Withdraw a request. Its holders are told when the server next reaches them.

        Raises
        ------
        InvalidRequestError
            If the request's status does not allow it, the request was ever committed, or the ledger has no such
            request.
        """
        with self.transaction():
            entry = self.entry(request_id)
            if entry.ever_committed:
                raise InvalidRequestError(
                    f"request {request_id!r} was committed; what was forgotten cannot be learned again"
                )
            if entry.status not in WITHDRAWABLE:
                possible = ", ".join(sorted(WITHDRAWABLE))
                raise InvalidRequestError(
                    f"request {request_id!r} is {entry.status}; only requests that are {possible} can be withdrawn"
                )
            self._advance(request_id, Status.WITHDRAWN, entry.attempt, None, {}, None)
            self._execute("UPDATE requests SET release_due = 1 WHERE id = ?", request_id)

    def released(self, request_id: str) -> None:
        """Record that the holders of a withdrawn request were told."""
        with self.transaction():
            if self.entry(request_id).release_due:
                self._execute("UPDATE requests SET release_due = 0 WHERE id = ?", request_id)
                self._record(request_id, "released", 0, {})

    def approve(self, request_id: str) -> None:
        """Approve a request, so that its size does not hold it. A request that is held goes on.

        Raises
        ------
        InvalidRequestError
            If the request has ended, or the ledger has no such request.
        """
        with self.transaction():
            entry = self.entry(request_id)
            if entry.status in FINAL:
                raise InvalidRequestError(f"request {request_id!r} is {entry.status}; nothing is left to approve")
            if not entry.approved:
                self._execute("UPDATE requests SET approved = 1 WHERE id = ?", request_id)
                self._record(request_id, "approved", 0, {})
            if entry.status is Status.HELD:
                self._advance(request_id, Status.RECEIVED, entry.attempt, None, {}, None)

    def accept_model(self, digest: str, accepted_after: str) -> None:
        """Record the model that serves from now on.

        Parameters
        ----------
        digest : str
            The model's digest in the checkpoint store.
        accepted_after : str
            What led to the model: ids of requests joined by ``+``, or for instance ``"train:1"``.
        """
        with self.transaction():
            self._execute(
                "INSERT INTO models (time, digest, accepted_after) VALUES (?, ?, ?)",
                *(time.time(), digest, accepted_after),
            )
            self._record(None, "model-accepted", 0, {"digest": digest, "after": accepted_after})

    def served_model(self) -> str | None:
        """Digest of the model that serves. None before the first."""
        row = self._first("SELECT digest FROM models ORDER BY sequence DESC LIMIT 1")
        return None if row is None else str(row[0])

    def committing_model(self, request_id: str) -> str | None:
        """Digest of the model that the last commit of a request began with. None if no commit began."""
        row = self._first(
            "SELECT facts FROM events WHERE request_id = ? AND name = ? ORDER BY sequence DESC LIMIT 1",
            *(request_id, Status.COMMITTING),
        )
        return None if row is None else json.loads(row[0]).get("digest")

    def _advance(
        self,
        request_id: str,
        status: Status,
        attempt: int,
        reason: str | None,
        facts: Mapping[str, Fact],
        method: str | None,
    ) -> None:
        row = self._first("SELECT status FROM requests WHERE id = ?", request_id)
        if row is None:
            raise self._unknown(request_id)
        check_transition(request_id, Status(row[0]), status)
        self._execute(
            "UPDATE requests SET status = ?, attempt = ?, reason = ?, method = COALESCE(?, method),"
            " ever_committed = ever_committed OR ? WHERE id = ?",
            *(status, attempt, reason, method, status is Status.COMMITTED, request_id),
        )
        self._record(request_id, status, attempt, {**facts, **({"method": method} if method else {})})

    def _end(
        self, request_id: str, status: Status, attempt: int, reason: str | None, outcome: Mapping[str, object]
    ) -> None:
        text = json.dumps(dict(outcome))
        self._advance(request_id, status, attempt, reason, {"outcome": reference(self._key.references, text)}, None)
        self._execute("UPDATE requests SET outcome = ? WHERE id = ?", text, request_id)

    def _unused_id(self, sequence: int) -> str:
        """The next id of the form ``r1``, ``r2``, … that no request has.

        The number of ids skipped so far is kept, so that an id that a user gave is skipped only once.
        """
        row = self._first("SELECT value FROM meta WHERE name = 'id-offset'")
        known = offset = 0 if row is None else int(row[0])
        reserved = self._reserved_ids()
        while (name := f"r{sequence + offset}") in reserved or self._first("SELECT 1 FROM requests WHERE id = ?", name):
            offset += 1
        if offset != known:
            self._execute(
                "INSERT INTO meta VALUES ('id-offset', ?) ON CONFLICT DO UPDATE SET value = excluded.value", str(offset)
            )
        return name
