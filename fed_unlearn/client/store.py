"""The client's durable store: quarantine, guard labels of open attempts, and tombstones."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import FedUnlearnError, InvalidDataError

_VERSION = 1
_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class StoredRequest:
    """One request in a holder's store.

    Attributes
    ----------
    sample_ids : tuple of str
        The holder's samples of the forget set.
    attempt : int
        The attempt that the guard labels belong to.
    tombstoned : bool
        Whether the request was committed. Until then its samples are quarantined. In neither case are they trained on.
    guard_labels : tuple of int
        The label that the open attempt taught each sample. Empty if no attempt is open. A committed request that has
        relapsed may have an open attempt again until ``audit_until``.
    audit_until : float
        Time, in seconds since the epoch, until which the samples may be read for audits after the commit.
    """

    sample_ids: tuple[str, ...]
    attempt: int
    tombstoned: bool = False
    guard_labels: tuple[int, ...] = ()
    audit_until: float = 0.0

    def may_be_audited(self) -> bool:
        """Whether the samples may still be read to measure forgetting."""
        return not self.tombstoned or time.time() < self.audit_until


class ClientStore:
    """The store in one client's folder. A method returns only after its change is on disk.

    Parameters
    ----------
    folder : Path
        The folder. It is made if it does not exist.
    fingerprint : str
        Digest of the data source that sample ids refer to.

    Raises
    ------
    InvalidDataError
        If the store was made for another data source, because its ids would name other samples.
    FedUnlearnError
        If the folder's file is not a store of this version.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / "state.json"
        self._requests: dict[str, StoredRequest] = {}
        self._key = ""
        self._signature: tuple[int, int, int] | None = None
        if self._path.exists():
            self._read(fingerprint)
        else:
            self._key = secrets.token_hex(32)
            self._fingerprint = fingerprint
            make_private_folder(folder)
            self._write()

    @classmethod
    def open(cls, folder: Path, fingerprint: str) -> ClientStore:
        """Open the store of a folder. It is read only if its file has changed since this process last used it.

        Parameters and errors are those of the class.
        """
        known = _opened.get(folder)
        if known is not None and known._fingerprint == fingerprint and known._signature == _signature_of(known._path):
            return known
        store = _opened[folder] = cls(folder, fingerprint)
        return store

    def get(self, request_id: str) -> StoredRequest | None:
        """The stored request. None if this client holds no sample of it."""
        return self._requests.get(request_id)

    def excluded_ids(self) -> frozenset[str]:
        """Ids of all samples that may not be trained on, because they are quarantined or tombstoned."""
        return frozenset(sample_id for stored in self._requests.values() for sample_id in stored.sample_ids)

    def tombstoned_ids(self) -> frozenset[str]:
        """Ids of all samples of committed requests."""
        stored = [stored for stored in self._requests.values() if stored.tombstoned]
        return frozenset(sample_id for item in stored for sample_id in item.sample_ids)

    def quarantine(self, request_id: str, sample_ids: Sequence[str], attempt: int) -> None:
        """Exclude samples from all training from now on. A committed request keeps its tombstones."""
        stored = self._requests.get(request_id)
        if stored is not None and stored.attempt == attempt:
            return
        if stored is not None and stored.tombstoned:
            self._set(request_id, replace(stored, attempt=attempt, guard_labels=()))
        else:
            self._set(request_id, StoredRequest(tuple(sample_ids), attempt))

    def set_guard(self, request_id: str, attempt: int, guard_labels: Sequence[int]) -> None:
        """Store the labels that an attempt taught, for guarded repair. Nothing happens unless that attempt is open."""
        stored = self._requests.get(request_id)
        if stored is not None and stored.may_be_audited() and stored.attempt == attempt:
            self._set(request_id, replace(stored, guard_labels=tuple(guard_labels)))

    def discard(self, request_id: str, attempt: int) -> None:
        """Drop the guard labels of an attempt that was rolled back. Its samples stay quarantined."""
        stored = self._requests.get(request_id)
        if stored is not None and stored.guard_labels and stored.attempt == attempt:
            self._set(request_id, replace(stored, guard_labels=()))

    def release(self, request_id: str) -> None:
        """Lift the quarantine of a request that was rejected or withdrawn. Tombstones are never lifted."""
        stored = self._requests.get(request_id)
        if stored is not None and not stored.tombstoned:
            del self._requests[request_id]
            self._write()

    def confirm(self, request_id: str, retention_days: float) -> None:
        """Turn the quarantine of a committed request into tombstones.

        Parameters
        ----------
        request_id : str
            The request. Nothing happens if it is not stored; existing tombstones stay.
        retention_days : float
            Number of days for which the samples may still be read for audits.
        """
        stored = self._requests.get(request_id)
        if stored is not None and stored.tombstoned:
            self._set(request_id, replace(stored, guard_labels=()))
        elif stored is not None:
            until = time.time() + retention_days * _SECONDS_PER_DAY if retention_days > 0 else 0.0
            self._set(request_id, replace(stored, tombstoned=True, guard_labels=(), audit_until=until))

    def tombstone_digest(self, without: Collection[str] = ()) -> str:
        """Digest of all tombstoned ids under the store's key, so that nobody can guess short ids from it.

        Parameters
        ----------
        without : collection of str
            Ids of requests whose tombstones are left out.
        """
        ids = sorted(
            sample_id
            for request_id, stored in self._requests.items()
            if stored.tombstoned and request_id not in without
            for sample_id in stored.sample_ids
        )
        return hmac.new(bytes.fromhex(self._key), json.dumps(ids).encode(), hashlib.sha256).hexdigest()

    def _set(self, request_id: str, stored: StoredRequest) -> None:
        self._requests[request_id] = stored
        self._write()

    def _read(self, fingerprint: str) -> None:
        try:
            body = json.loads(self._path.read_text())
            version, self._fingerprint, self._key = body["version"], body["fingerprint"], body["key"]
            bytes.fromhex(self._key)
            requests = {
                request_id: StoredRequest(
                    **{**item, "sample_ids": tuple(item["sample_ids"]), "guard_labels": tuple(item["guard_labels"])}
                )
                for request_id, item in body["requests"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FedUnlearnError(f"{self._path}: not a client's store: {error}; restore it from a backup") from error
        if version != _VERSION:
            raise FedUnlearnError(f"{self._path}: a store of version {version}; this library reads {_VERSION}")
        if self._fingerprint != fingerprint:
            raise InvalidDataError(
                f"{self._path}: the store was made for the data source {self._fingerprint[:12]}, the client now has"
                f" {fingerprint[:12]}: its tombstones would name other samples; restore the old data"
                " or give the new source ids of its own and a new store"
            )
        self._requests = requests
        self._signature = _signature_of(self._path)

    def _write(self) -> None:
        body = {
            "version": _VERSION,
            "fingerprint": self._fingerprint,
            "key": self._key,
            "requests": {request_id: asdict(stored) for request_id, stored in self._requests.items()},
        }
        write_atomically(self._path, json.dumps(body).encode())
        self._signature = _signature_of(self._path)


_opened: dict[Path, ClientStore] = {}
"""Stores that this process has opened. Another process may handle a simulated client's next message."""


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
