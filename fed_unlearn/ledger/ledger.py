"""The server's durable record of what was asked, what was done, and which model serves."""

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


class Ledger(ClientRecords):
    """Requests, every step of their lives, clients, and the accepted models, in one SQLite file.

    Several processes may use one file at once, each with a ledger of its own; they wait for each other. One object is
    for the thread that made it: use from another thread is refused.

    Parameters
    ----------
    path : str or Path
        The file; made with its folder if it is not there.
    create : bool
        False where a file that is not a ledger yet is an error instead.

    Raises
    ------
    FedUnlearnError
        If the file is not a ledger, or one of a newer version.
    """

    def receive(self, request: ForgetRequest) -> str:
        """Write a request down; from here on it is never lost.

        Its id stands in the record of events for ever: give none that names a person.

        Returns
        -------
        str
            Its id: the given one, or ``r1``, ``r2``, … in order. A request that is there already is left as it is,
            its priority and deadline too.

        Raises
        ------
        InvalidRequestError
            If the id is taken by a request that asks for something else.
        """
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
            self._record(request_id, Status.RECEIVED, 0, {"request": reference(self._secret, body)})
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
        status : Status
        attempt : int
        reason : str, optional
            Kept with the request until its next step, not in the record of events.
        facts : mapping of str to str, int, float, bool or None, optional
            For the record of events; as for :meth:`note`.
        method : str, optional
            The method in use from now on; left as it is where none is given.

        Raises
        ------
        TransitionError
            If the life of a request does not have that step.
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
        """Take several requests one step further, all or none; ``attempt`` of all, or of each by its id.

        The other parameters and the errors are those of :meth:`advance`.
        """
        with self.transaction():
            for request_id in request_ids:
                number = attempt if isinstance(attempt, int) else attempt[request_id]
                self._advance(request_id, status, number, reason, facts or {}, method)

    def commit(self, outcomes: Mapping[str, Mapping[str, object]], digest: str, *, attempts: Mapping[str, int]) -> None:
        """Commit requests and record the model that they led to, in one transaction.

        Parameters
        ----------
        outcomes : mapping of str to mapping
            Figures of each request, by its id; what can be written as JSON.
        digest : str
            The model's name in the checkpoint store.
        attempts : mapping of str to int
            By the request's id.

        Raises
        ------
        TransitionError
            If a request is not being committed.
        """
        with self.transaction():
            for request_id, outcome in outcomes.items():
                self._end(request_id, Status.COMMITTED, attempts[request_id], None, outcome)
            self.accept_model(digest, "+".join(outcomes))

    def finish(
        self, request_id: str, status: Status, *, attempt: int, reason: str, outcome: Mapping[str, object]
    ) -> None:
        """End a request that is not committed, with its figures.

        Raises
        ------
        InvalidParameterError
            If the status is neither failed nor rejected.
        TransitionError
            If the life of a request does not have that step.
        """
        if status not in (Status.FAILED, Status.REJECTED):
            raise InvalidParameterError(f"request {request_id}: finish with {status}; expected failed or rejected")
        with self.transaction():
            self._end(request_id, status, attempt, reason, outcome)

    def withdraw(self, request_id: str) -> None:
        """Withdraw a request; its holders are told when the server next reaches them.

        Raises
        ------
        InvalidRequestError
            If it is past the point where that is possible, or was committed once, or the ledger has no such request.
        """
        with self.transaction():
            entry = self.entry(request_id)
            if entry.ever_committed:
                raise InvalidRequestError(
                    f"request {request_id!r} was committed; what was forgotten is not learned again"
                )
            if entry.status not in WITHDRAWABLE:
                possible = ", ".join(sorted(WITHDRAWABLE))
                raise InvalidRequestError(
                    f"request {request_id!r} is {entry.status}; only requests that are {possible} can be withdrawn"
                )
            self._advance(request_id, Status.WITHDRAWN, entry.attempt, None, {}, None)
            self._execute("UPDATE requests SET release_due = 1 WHERE id = ?", request_id)

    def released(self, request_id: str) -> None:
        """Write down that the holders of a withdrawn request were told."""
        with self.transaction():
            if self.entry(request_id).release_due:
                self._execute("UPDATE requests SET release_due = 0 WHERE id = ?", request_id)
                self._record(request_id, "released", 0, {})

    def approve(self, request_id: str) -> None:
        """Approve a request, whatever its size; one that is held goes on. It may be approved before it is held.

        Raises
        ------
        InvalidRequestError
            If it has ended, or the ledger has no such request.
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
            Its name in the checkpoint store.
        accepted_after : str
            What led to it: ids of requests joined by ``+``, or for instance ``"train:1"``.
        """
        with self.transaction():
            self._execute(
                "INSERT INTO models (time, digest, accepted_after) VALUES (?, ?, ?)",
                *(time.time(), digest, accepted_after),
            )
            self._record(None, "model-accepted", 0, {"digest": digest, "after": accepted_after})

    def served_model(self) -> str | None:
        """Digest of the model that serves; None before the first."""
        row = self._first("SELECT digest FROM models ORDER BY sequence DESC LIMIT 1")
        return None if row is None else str(row[0])

    def committing_model(self, request_id: str) -> str | None:
        """Digest of the model that a request was being committed with; None where it was not."""
        row = self._first(
            "SELECT facts FROM events WHERE request_id = ? AND name = ? ORDER BY sequence DESC LIMIT 1",
            *(request_id, Status.COMMITTING),
        )
        return None if row is None else json.loads(row[0]).get("digest")

    # ------------------------------------------------------------------ steps

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
        self._advance(request_id, status, attempt, reason, {"outcome": reference(self._secret, text)}, None)
        self._execute("UPDATE requests SET outcome = ? WHERE id = ?", text, request_id)

    def _unused_id(self, sequence: int) -> str:
        """``r`` and a number that grows; every given id of that form is stepped over once, and never again."""
        row = self._first("SELECT value FROM meta WHERE name = 'id-offset'")
        known = offset = 0 if row is None else int(row[0])
        while self._first("SELECT 1 FROM requests WHERE id = ?", f"r{sequence + offset}"):
            offset += 1
        if offset != known:
            self._execute("INSERT OR REPLACE INTO meta VALUES ('id-offset', ?)", str(offset))
        return f"r{sequence + offset}"
