"""Which attempts a message belongs to, and whether its client has put by what they may change of its own."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import ConfigRecord, Message
from pydantic import TypeAdapter, ValidationError

from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.identity import LEDGER_KEY, RequestAttempt

_ATTEMPTS = "attempts"
_PUT_BY_KEY = "put-by"
_LIST = TypeAdapter(tuple[RequestAttempt, ...])


def attempts_record(attempts: Sequence[RequestAttempt]) -> ConfigRecord:
    """What stands beside the ledger of a message that belongs to attempts; empty where it belongs to none."""
    return ConfigRecord({_ATTEMPTS: _LIST.dump_json(tuple(attempts)).decode()} if attempts else {})


def attempts_of(message: Message) -> tuple[RequestAttempt, ...]:
    """The attempts that a message belongs to, whatever it asks for; none where the server does not say.

    Raises
    ------
    ProtocolError
        If they are malformed.
    """
    record = message.content.get(LEDGER_KEY) if message.has_content() else None
    if not isinstance(record, ConfigRecord) or _ATTEMPTS not in record:
        return ()
    try:
        return _LIST.validate_json(str(record[_ATTEMPTS]))
    except ValidationError as error:
        raise ProtocolError(f"a {message.metadata.message_type} message with malformed attempts") from error


def write_put_by(reply: Message) -> None:
    """Say on a reply that its client has put something by, so that it is told how the attempts end."""
    reply.content[_PUT_BY_KEY] = ConfigRecord({_PUT_BY_KEY: True})


def has_put_by(reply: Message) -> bool:
    """Whether :func:`write_put_by` was called on a reply."""
    return isinstance(reply.content.get(_PUT_BY_KEY), ConfigRecord)
