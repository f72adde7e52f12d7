"""What a reply says beside its numbers: forgotten samples by request, earlier tombstones, refusals and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flwr.app import ConfigRecord, Message, RecordDict
from pydantic import BaseModel, ConfigDict, ValidationError

_REFUSED = "refused"
_FORGOTTEN_KEY = "forgotten"
_EARLIER_KEY = "earlier"


def write_forgotten(message: Message, counts: Mapping[str, int], refused: Mapping[str, str]) -> None:
    """Put on a reply the number of samples of each request here, and why some requests cannot be served here."""
    message.content[_FORGOTTEN_KEY] = ConfigRecord({"counts": json.dumps(counts), "refused": json.dumps(refused)})


def read_forgotten(message: Message) -> tuple[dict[str, int], dict[str, str]] | None:
    """What :func:`write_forgotten` wrote; None if there is no such record, or a malformed one."""
    record = message.content.get(_FORGOTTEN_KEY)
    if not isinstance(record, ConfigRecord):
        return None
    try:
        counts, refused = json.loads(str(record["counts"])), json.loads(str(record["refused"]))
        return {str(key): int(value) for key, value in counts.items()}, {
            str(key): str(value) for key, value in refused.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def write_earlier_tombstones(message: Message, digest: str) -> None:
    """Put on a reply the tombstone digest that the client has without the tombstones of some requests.

    On ``train.confirm`` it is the digest from before the client wrote any.
    """
    message.content[_EARLIER_KEY] = ConfigRecord({"tombstones": digest})


def read_earlier_tombstones(message: Message) -> str | None:
    """What :func:`write_earlier_tombstones` wrote; None if there is no such record."""
    record = message.content.get(_EARLIER_KEY)
    return str(record.get("tombstones")) if isinstance(record, ConfigRecord) else None


class Refusal(BaseModel):
    """Why a client did not do what was asked, without anything about its data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    invalid_request: bool
    """Whether the request itself cannot be served; if False, something went wrong while it was served."""


def refuse(message: Message, refusal: Refusal) -> Message:
    """A reply that says that the client did not do what was asked."""
    return Message(RecordDict({_REFUSED: ConfigRecord(refusal.model_dump())}), reply_to=message)


def refusal_of(message: Message) -> Refusal | None:
    """Why a client refused; None if it did not."""
    record = message.content.get(_REFUSED)
    if not isinstance(record, ConfigRecord):
        return None
    try:
        return Refusal.model_validate(dict(record))
    except ValidationError:
        return Refusal(reason="a refusal that cannot be read", invalid_request=False)


def error_of(message: Message) -> str:
    """Why a client's app failed: the last line of the runtime's reason, which may be a whole traceback.

    Parameters
    ----------
    message : Message
        A reply that is an error.
    """
    lines = [line.strip() for line in (message.error.reason or "").splitlines() if line.strip()]
    return lines[-1] if lines else "an error without a reason"
