"""What messages carry of receipts: each is a signed text for the owner of a client's data, kept at the node."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from flwr.app import ConfigRecord, Message
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fed_unlearn.errors import ProtocolError
from fed_unlearn.owner.records import OwnerId

RECEIPTS_KEY = "owner-receipts"
"""Record of ``query.requests``: receipts of an owner's requests that have ended."""

MOST_RECEIPTS = 8
"""Maximum number of receipts in one message. The others follow when these are confirmed."""

LONGEST_RECEIPT = 2**16
"""Maximum length of a receipt in characters. The server sends none that is longer, and the node reads none."""

_KEEPER_KEY = "receipts-keeper"
_RECEIPTS = "receipts"
_LONGEST_RECORD = 2 * MOST_RECEIPTS * LONGEST_RECEIPT


class OwnerReceipt(BaseModel):
    """One receipt as it travels.

    Attributes
    ----------
    owner_request : str
        Id of the request at the node.
    text : str
        The receipt's file, byte for byte, in ASCII.
    key : str
        The public key of its signature, 64 hexadecimal digits. The node takes the first one that it sees, and no other
        after that.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    owner_request: OwnerId
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_RECEIPT)]
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Receipts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    receipts: Annotated[tuple[OwnerReceipt, ...], Field(max_length=MOST_RECEIPTS)]


def receipt_digest(content: bytes) -> str:
    """16 hexadecimal digits by which a node says that it has a receipt on disk."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_keeps_receipts(reply: Message) -> None:
    """Say on a reply to ``query.identify`` that this node keeps receipts. Older servers do not read it."""
    reply.content[_KEEPER_KEY] = ConfigRecord({"keeps": True})


def keeps_receipts(reply: Message) -> bool:
    """Whether a reply says so."""
    record = reply.content.get(_KEEPER_KEY)
    return isinstance(record, ConfigRecord) and record.get("keeps") is True


def receipts_record(receipts: Sequence[OwnerReceipt]) -> ConfigRecord:
    """The record that hands receipts to a node; the first ones where there are too many."""
    return ConfigRecord({_RECEIPTS: _Receipts(receipts=tuple(receipts[:MOST_RECEIPTS])).model_dump_json()})


def read_receipts(message: Message) -> tuple[OwnerReceipt, ...]:
    """What :func:`receipts_record` wrote; empty where a message has no such record.

    Raises
    ------
    ProtocolError
        If the record is malformed.
    """
    record = message.content.get(RECEIPTS_KEY) if message.has_content() else None
    if record is None:
        return ()
    text = record.get(_RECEIPTS) if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str) or len(text) > _LONGEST_RECORD:
        raise ProtocolError("receipts of owners' requests that are no text, or too long a one")
    try:
        return _Receipts.model_validate_json(text).receipts
    except (ValidationError, RecursionError):
        raise ProtocolError("receipts of owners' requests that are malformed") from None
