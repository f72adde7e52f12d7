"""The client's durable store: quarantine, guard labels of open attempts, and tombstones."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder
from fed_unlearn.client.stored import UNCLAIMED, RequestName, StoreBody, StoredRequest, read_store, write_store
from fed_unlearn.errors import InvalidRequestError

__all__ = ["ClientStore", "StoredRequest"]

_SECONDS_PER_DAY = 86_400.0


class ClientStore:
    """The store in one client's folder, used for one ledger. A method returns only after its change is on disk.

    Several ledgers may have requests in one store, even under the same ids. A method speaks of the requests of its own
    ledger alone; only :meth:`excluded_ids` and :meth:`unusable_ids` look at those of others too.

    Parameters
    ----------
    folder : Path
        The folder. It is made if it does not exist.
    fingerprint : str
        Digest of the data source that sample ids refer to.
    ledger : str
        Identity of the ledger whose requests are meant. Empty for a server that does not say which ledger it has.

    Raises
    ------
    InvalidDataError
        If the store was made for another data source, because its ids would name other samples.
    FedUnlearnError
        If the folder's file is not a store of this version.
    """

    def __init__(self, folder: Path, fingerprint: str, ledger: str = UNCLAIMED) -> None:
        self._path = folder / "state.json"
        self._ledger = ledger
        self._signature: tuple[int, int, int] | None = None
        if self._path.exists():
            self._body = read_store(self._path, fingerprint)
            self._signature = _signature_of(self._path)
        else:
            self._body = StoreBody(fingerprint, secrets.token_hex(32), {})
            make_private_folder(folder)
            self._write()

    @classmethod
    def open(cls, folder: Path, fingerprint: str, ledger: str = UNCLAIMED) -> ClientStore:
        """Open the store of a folder. It is read only if its file has changed since this process last used it.

        Parameters and errors are those of the class.
        """
        known = _opened.get((folder, ledger))
        if (
            known is not None
            and known._body.fingerprint == fingerprint
            and known._signature == _signature_of(known._path)
        ):
            return known
        store = _opened[folder, ledger] = cls(folder, fingerprint, ledger)
        return store

    def get(self, request_id: str, digest: str = "") -> StoredRequest | None:
        """The stored request. None if this client holds no sample of it.

        Parameters
        ----------
        request_id : str
            Id of the request.
        digest : str
            Digest of what the server asks for now. Empty where the server does not say.

        Raises
        ------
        InvalidRequestError
            If the ledger asked for something else under this id before.
        """
        stored = self._requests.get(self._name(request_id))
        if stored is not None and stored.digest and digest and stored.digest != digest:
            raise InvalidRequestError(
                f"request {request_id} of this ledger asked for something else here before; the ledger may be an older"
                " copy of itself: restore the newest copy, or put the request under a new id"
            )
        return stored

    def excluded_ids(self) -> frozenset[str]:
        """Ids of all samples that may not be trained on, because they are quarantined or tombstoned.

        Requests of all ledgers count: what was forgotten once is never trained on again.
        """
        return frozenset(sample_id for stored in self._requests.values() for sample_id in stored.sample_ids)

    def tombstoned_ids(self) -> frozenset[str]:
        """Ids of all samples of committed requests, of all ledgers."""
        stored = [stored for stored in self._requests.values() if stored.tombstoned]
        return frozenset(sample_id for item in stored for sample_id in item.sample_ids)

    def own_excluded_ids(self) -> frozenset[str]:
        """Ids of the samples that are quarantined or tombstoned for requests of this ledger."""
        return frozenset(sample_id for stored in self._own() for sample_id in stored.sample_ids)

    def unusable_ids(self) -> frozenset[str]:
        """Ids of the tombstoned samples that no new request of this ledger can ask for.

        These are the ones that this ledger has forgotten, and those that another one has and that may be read no
        longer. Until then its own model may still know what another ledger has forgotten.
        """
        return frozenset(
            sample_id
            for (ledger, _), stored in self._requests.items()
            if stored.tombstoned and (ledger == self._ledger or not stored.may_be_audited())
            for sample_id in stored.sample_ids
        )

    def unreadable_ids(self) -> frozenset[str]:
        """Ids of the samples of committed requests that may not be read any more, not even for audits."""
        readable = {item for stored in self._requests.values() if stored.may_be_audited() for item in stored.sample_ids}
        return self.tombstoned_ids() - readable

    def retention_ended_since(self, moment: float) -> bool:
        """Whether samples of a committed request may be read no longer that might be read then.

        Parameters
        ----------
        moment : float
            The earlier time, in seconds since the epoch.
        """
        return any(
            stored.tombstoned and moment < stored.audit_until <= time.time() for stored in self._requests.values()
        )

    def requested_count(self, held: Collection[str] | None = None) -> int:
        """Number of samples in the requests of this ledger. A sample of two requests counts twice.

        Parameters
        ----------
        held : collection of str, optional
            Ids of the client's training samples. Quarantined samples that are none of them do not count: the store is
            that of another client.
        """
        open_ids = [stored.sample_ids for stored in self._own() if not stored.tombstoned]
        count = sum(len(stored.sample_ids) for stored in self._own() if stored.tombstoned)
        if held is None or not open_ids:
            return count + sum(map(len, open_ids))
        known = set(held)
        return count + sum(len(known.intersection(ids)) for ids in open_ids)

    def quarantine(self, request_id: str, sample_ids: Sequence[str], attempt: int, digest: str = "") -> None:
        """Exclude samples from all training from now on. A committed request keeps its tombstones."""
        stored = self.get(request_id, digest)
        if stored is not None and stored.attempt == attempt:
            return
        if stored is not None and stored.tombstoned:
            self._set(
                request_id, replace(stored, attempt=attempt, guard_labels=(), limits=(), digest=digest or stored.digest)
            )
        else:
            self._set(request_id, StoredRequest(tuple(sample_ids), attempt, digest=digest))

    def set_guard(self, request_id: str, attempt: int, guard_labels: Sequence[int]) -> None:
        """Store the labels that an attempt taught, for guarded repair. Nothing happens unless that attempt is open."""
        stored = self.get(request_id)
        if stored is not None and stored.may_be_audited() and stored.attempt == attempt:
            self._set(request_id, replace(stored, guard_labels=tuple(guard_labels)))

    def set_limits(self, request_id: str, attempt: int, limits: Sequence[float]) -> None:
        """Store the limits that an attempt found, for audits of what it made, as :meth:`set_guard` stores labels."""
        stored = self.get(request_id)
        if stored is not None and stored.may_be_audited() and stored.attempt == attempt:
            self._set(request_id, replace(stored, limits=tuple(limits)))

    def discard(self, request_id: str, attempt: int) -> None:
        """Drop the guard labels and limits of an attempt that was rolled back. Its samples stay quarantined."""
        stored = self.get(request_id)
        if stored is not None and (stored.guard_labels or stored.limits) and stored.attempt == attempt:
            self._set(request_id, replace(stored, guard_labels=(), limits=()))

    def release(self, request_id: str) -> None:
        """Lift the quarantine of a request that was rejected or withdrawn. Tombstones are never lifted."""
        stored = self.get(request_id)
        if stored is not None and not stored.tombstoned:
            del self._requests[self._name(request_id)]
            self._write()

    def confirm(self, request_id: str, retention_days: float, *, keeps_guard: bool = False) -> None:
        """Turn the quarantine of a committed request into tombstones.

        Parameters
        ----------
        request_id : str
            The request. Nothing happens if it is not stored; existing tombstones stay.
        retention_days : float
            Number of days for which the samples may still be read for audits.
        keeps_guard : bool
            Whether guard labels are kept for as long.
        """
        stored = self.get(request_id)
        if stored is None:
            return
        if not stored.tombstoned:
            until = time.time() + retention_days * _SECONDS_PER_DAY if retention_days > 0 else 0.0
            stored = replace(stored, tombstoned=True, audit_until=until)
        kept = stored.guard_labels if keeps_guard and stored.may_be_audited() else ()
        self._set(request_id, replace(stored, guard_labels=kept, limits=()))

    def tombstone_digest(self, without: Collection[str] = ()) -> str:
        """Digest of the tombstoned ids of this ledger under the store's key, so that nobody can guess ids from it.

        Parameters
        ----------
        without : collection of str
            Ids of requests whose tombstones are left out.
        """
        return self._digest_of(self._tombstoned({self._ledger}, without))

    # ------------------------------------------------------------------ requests of a store of version 1

    def unclaimed(self, request_id: str) -> StoredRequest | None:
        """The request of this id in a store of version 1, which did not say of which ledger it is."""
        return self._requests.get((UNCLAIMED, request_id)) if self._ledger != UNCLAIMED else None

    def claim(self, request_id: str, digest: str = "") -> StoredRequest:
        """Take an unclaimed request as one of this ledger, and return it."""
        stored = replace(self._requests.pop((UNCLAIMED, request_id)), digest=digest)
        self._set(request_id, stored)
        return stored

    def claim_all(self, confirmed: str, without: Collection[str] = ()) -> None:
        """Take all unclaimed requests as those of this ledger if it knows which tombstones they had.

        Parameters
        ----------
        confirmed : str
            The digest that the client confirmed to this ledger.
        without : collection of str
            Ids of requests whose tombstones may have been written since. They stay unclaimed.
        """
        names = [name for name in self._requests if name[0] == UNCLAIMED and name[1] not in without]
        if self._ledger == UNCLAIMED or not any(self._requests[name].tombstoned for name in names):
            return
        shown = self._digest_of(self._tombstoned({self._ledger, UNCLAIMED}, without))
        if hmac.compare_digest(shown.encode(), confirmed.encode()):
            for name in names:
                self._requests.setdefault(self._name(name[1]), self._requests.pop(name))
            self._write()

    # ------------------------------------------------------------------ file

    @property
    def _requests(self) -> dict[RequestName, StoredRequest]:
        return self._body.requests

    def _own(self) -> list[StoredRequest]:
        return [stored for name, stored in self._requests.items() if name[0] == self._ledger]

    def _tombstoned(self, ledgers: Collection[str], without: Collection[str]) -> list[str]:
        return sorted(
            sample_id
            for (ledger, request_id), stored in self._requests.items()
            if ledger in ledgers and stored.tombstoned and request_id not in without
            for sample_id in stored.sample_ids
        )

    def _digest_of(self, ids: list[str]) -> str:
        return hmac.new(bytes.fromhex(self._body.key), json.dumps(ids).encode(), hashlib.sha256).hexdigest()

    def _name(self, request_id: str) -> RequestName:
        return self._ledger, request_id

    def _set(self, request_id: str, stored: StoredRequest) -> None:
        self._requests[self._name(request_id)] = stored
        self._write()

    def _write(self) -> None:
        write_store(self._path, self._body)
        self._signature = _signature_of(self._path)


_opened: dict[tuple[Path, str], ClientStore] = {}
"""Stores that this process has opened, by folder and ledger. Another may handle a simulated client's next message."""


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
