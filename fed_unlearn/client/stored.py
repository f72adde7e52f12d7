"""The file of a client's store: what stands in it, and how it is read and written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError, InvalidDataError

VERSION = 2
UNCLAIMED = ""
"""The ledger of requests of a store of version 1, which did not say whose they are."""

RequestName = tuple[str, str]
"""Identity of a ledger, and the id of one of its requests."""


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
    limits : tuple of float
        Log-odds of each sample's own class from which on the sample stands too high, as the open attempt found them.
        Empty where it has read no reference.
    digest : str
        Digest of what was asked, as :func:`fed_unlearn.protocol.asked_digest` makes it. Empty where it is not known.
    """

    sample_ids: tuple[str, ...]
    attempt: int
    tombstoned: bool = False
    guard_labels: tuple[int, ...] = ()
    audit_until: float = 0.0
    digest: str = ""
    limits: tuple[float, ...] = ()

    def may_be_audited(self) -> bool:
        """Whether the samples may still be read to measure forgetting."""
        return not self.tombstoned or time.time() < self.audit_until


@dataclass(frozen=True)
class StoreBody:
    """The content of a store's file.

    Attributes
    ----------
    fingerprint : str
        Digest of the data source that sample ids refer to.
    key : str
        Secret of this store, in hexadecimal digits. Digests that leave the client are keyed with it.
    requests : dict of (str, str) to StoredRequest
        Requests by ledger and id. Those of a store of version 1 stand under the ledger :data:`UNCLAIMED`.
    """

    fingerprint: str
    key: str
    requests: dict[RequestName, StoredRequest]


def read_store(path: Path, fingerprint: str) -> StoreBody:
    """Read a store's file, of this version or of version 1.

    Raises
    ------
    InvalidDataError
        If the store was made for another data source.
    FedUnlearnError
        If the file is not a store, or one of another version.
    """
    try:
        body = json.loads(path.read_text())
        version, found, key = body["version"], body["fingerprint"], body["key"]
        bytes.fromhex(key)
        requests = {} if version not in (1, VERSION) else dict(_entries(body["requests"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FedUnlearnError(f"{path}: not a client's store: {error}; restore it from a backup") from error
    if version not in (1, VERSION):
        raise FedUnlearnError(f"{path}: a store of version {version}; this library reads versions up to {VERSION}")
    if found != fingerprint:
        raise InvalidDataError(
            f"{path}: the store was made for the data source {found[:12]}, the client now has"
            f" {fingerprint[:12]}: its tombstones would name other samples; restore the old data"
            " or give the new source ids of its own and a new store"
        )
    return StoreBody(found, key, requests)


def write_store(path: Path, body: StoreBody) -> None:
    """Write a store's file; it is whole on disk when this returns."""
    text = json.dumps(
        {
            "version": VERSION,
            "fingerprint": body.fingerprint,
            "key": body.key,
            "requests": {
                _key_of(name): {"ledger": name[0], "id": name[1], **_fields(stored)}
                for name, stored in body.requests.items()
            },
        }
    )
    write_atomically(path, text.encode())


def _entries(requests: Mapping[str, dict[str, Any]]) -> Iterator[tuple[RequestName, StoredRequest]]:
    for key, item in requests.items():
        ledger, request_id = item.pop("ledger", UNCLAIMED), item.pop("id", key)
        samples, labels = tuple(item.pop("sample_ids")), tuple(item.pop("guard_labels"))
        stored = StoredRequest(sample_ids=samples, guard_labels=labels, limits=tuple(item.pop("limits", ())), **item)
        yield (str(ledger), str(request_id)), stored


def _fields(stored: StoredRequest) -> dict[str, Any]:
    """As JSON; without limits where there are none: earlier versions know no such field."""
    fields = asdict(stored)
    if not stored.limits:
        del fields["limits"]
    return fields


def _key_of(name: RequestName) -> str:
    ledger, request_id = name
    return f"{ledger}/{request_id}" if ledger else request_id
