"""Which arrays a client's task sends, as it says on ``query.identify``, and those of a reference beside the model."""

from __future__ import annotations

import json
from typing import Annotated

from flwr.app import ArrayRecord, ConfigRecord, Message
from pydantic import Field, TypeAdapter, ValidationError

from fed_unlearn.shapes import Shapes

REFERENCE_KEY = "reference"
_ARRAYS_KEY, _INDEX = "model-arrays", "index"
_MOST_ARRAYS, _MOST_DIMENSIONS = 100_000, 32

_Size = Annotated[int, Field(ge=0)]
_Shape = Annotated[tuple[_Size, ...], Field(max_length=_MOST_DIMENSIONS)]
_READER = TypeAdapter(Annotated[list[tuple[str, _Shape]], Field(max_length=_MOST_ARRAYS)])


def write_model_arrays(reply: Message, shapes: Shapes) -> None:
    """Put on a reply to ``query.identify`` the names and shapes of the arrays that this client's task sends."""
    reply.content[_ARRAYS_KEY] = ConfigRecord({_INDEX: json.dumps(list(shapes.items()))})


def read_model_arrays(reply: Message) -> Shapes | None:
    """What :func:`write_model_arrays` wrote; None where the client does not say, as older ones, or not readably."""
    record = reply.content.get(_ARRAYS_KEY) if reply.has_content() else None
    index = record.get(_INDEX) if isinstance(record, ConfigRecord) else None
    if not isinstance(index, str):
        return None
    try:
        return dict(_READER.validate_json(index))
    except ValidationError:
        return None


def reference_of(message: Message) -> ArrayRecord | None:
    """The arrays in which a reference differs from the model of a ``train.unlearn`` message; None without one."""
    record = message.content.get(REFERENCE_KEY)
    return record if isinstance(record, ArrayRecord) else None
