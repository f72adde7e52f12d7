"""The stamp of every reply of an installed app: its client, and the message that it answers."""

from __future__ import annotations

import hashlib
import json

from flwr.app import ConfigRecord, Message
from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.protocol.arrivals import ARRIVALS_KEY

STAMP_KEY = "fed-unlearn"


class Stamp(BaseModel):
    """Facts about its client in every reply of an installed app."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str
    tombstones: str
    retained: bool
    """Whether the handler took its data through :func:`fed_unlearn.client.retained`."""
    version: str
    device: str
    cuda_visible_devices: str
    answers: str = ""
    """Digest of the message that is answered; an answer to an older message has another digest."""


def write_stamp(message: Message, stamp: Stamp) -> None:
    """Put a client's stamp on its reply."""
    message.content[STAMP_KEY] = ConfigRecord(
        {name: value for name, value in stamp.model_dump().items() if value is not None}
    )


def read_stamp(message: Message) -> Stamp | None:
    """The stamp of a reply; None where it has none or a malformed one."""
    record = message.content.get(STAMP_KEY)
    if not isinstance(record, ConfigRecord):
        return None
    try:
        return Stamp.model_validate(dict(record))
    except ValidationError:
        return None


def digest_of(message: Message) -> str:
    """Digest of a message's type and configuration, which differs between the messages of two rounds.

    The arrivals of a client are no part of it: they are long, and the same in all messages of a run.
    """
    said = {
        name: sorted((key, repr(value)) for key, value in record.items())
        for name, record in message.content.items()
        if isinstance(record, ConfigRecord) and name != ARRIVALS_KEY
    }
    text = json.dumps([message.metadata.message_type, sorted(said.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
