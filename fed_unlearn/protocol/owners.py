"""What replies carry of the requests of the data's owners, and what messages carry back: what became of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated

from flwr.app import ConfigRecord, Message, RecordDict
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fed_unlearn.errors import ProtocolError
from fed_unlearn.owner.records import OwnerAnswer, QueuedRequest

QUEUED_KEY = "owner-queued"
"""Record of a reply: requests that the client's owner has queued."""

ANSWERS_KEY = "owner-answers"
"""Record of a message: what became of them."""

MOST_IN_A_MESSAGE = 32
"""Maximum number of requests that are told of, or answered, in one message. The others follow."""

_NOTE, _ANSWERS = "note", "answers"
_LONGEST_NOTE, _LONGEST_ANSWERS = 2**16, 2**18

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class OwnerNote(BaseModel):
    """What a reply says of the requests of its client's owner.

    Attributes
    ----------
    queued : tuple of QueuedRequest
        Requests that the server has not answered yet, and those whose owner wants them back.
    heard : tuple of str
        Digests of the answers that came with the message: they are on disk.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    queued: Annotated[tuple[QueuedRequest, ...], Field(max_length=MOST_IN_A_MESSAGE)] = ()
    heard: Annotated[tuple[_Digest, ...], Field(max_length=MOST_IN_A_MESSAGE)] = ()


class _Answers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    answers: Annotated[tuple[OwnerAnswer, ...], Field(max_length=MOST_IN_A_MESSAGE)]


def write_owner_note(message: Message, note: OwnerNote) -> None:
    """Put on a reply what it says of owners' requests."""
    message.content[QUEUED_KEY] = ConfigRecord({_NOTE: note.model_dump_json(exclude_defaults=True)})


def read_owner_note(message: Message) -> OwnerNote | None:
    """What :func:`write_owner_note` wrote; None where a reply has no such record.

    Raises
    ------
    ProtocolError
        If the record is malformed, or an id stands in it twice.
    """
    if not message.has_content() or (record := message.content.get(QUEUED_KEY)) is None:
        return None
    text = record.get(_NOTE) if isinstance(record, ConfigRecord) and len(record) == 1 else None
    if not isinstance(text, str) or len(text) > _LONGEST_NOTE:
        raise ProtocolError("owners' requests that are no text, or too long a one")
    try:
        note = OwnerNote.model_validate_json(text)
    except ValidationError as error:
        what = error.errors(include_input=False, include_url=False)[0]
        raise ProtocolError(f"owners' requests that are malformed: {what['msg']}") from None
    if len({item.owner_request for item in note.queued}) < len(note.queued):
        raise ProtocolError("owners' requests of which one stands there twice")
    return note


def answers_record(answers: Sequence[OwnerAnswer]) -> ConfigRecord:
    """The record that tells a node what became of its owner's requests; the first ones where there are too many."""
    body = _Answers(answers=tuple(answers[:MOST_IN_A_MESSAGE]))
    return ConfigRecord({_ANSWERS: body.model_dump_json(exclude_defaults=True)})


def read_answers(message: Message) -> tuple[OwnerAnswer, ...]:
    """What :func:`answers_record` wrote; empty where a message has no such record.

    Raises
    ------
    ProtocolError
        If the record is malformed.
    """
    record = message.content.get(ANSWERS_KEY) if message.has_content() else None
    if record is None:
        return ()
    text = record.get(_ANSWERS) if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str) or len(text) > _LONGEST_ANSWERS:
        raise ProtocolError("answers to owners' requests that are no text, or too long a one")
    try:
        return _Answers.model_validate_json(text).answers
    except ValidationError:
        raise ProtocolError("answers to owners' requests that are malformed") from None


def without_records(message: Message, *names: str) -> Message:
    """The message without some of its records; itself where it has none of them. The one that came stays as it is."""
    if not any(name in message.content for name in names):
        return message
    told = copy.copy(message)
    told.content = RecordDict({name: item for name, item in message.content.items() if name not in names})
    return told
