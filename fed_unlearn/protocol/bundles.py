"""All arrays of a model as one object of the wire.

Flower stores and sends each array of a message as two objects, each with a request of its own, four times on the way
to a client and back. Requests are then most of what a message costs. A bundle is one array, however many it holds.

Its bytes are laid out as in the safetensors format: the length of the index as eight bytes, the index as JSON, and the
data of the arrays in the order of the index.
"""

from __future__ import annotations

import json
from typing import Annotated

from flwr.app import Array, ArrayRecord, RecordDict
from pydantic import Field, TypeAdapter, ValidationError

from fed_unlearn.errors import ProtocolError

_STYPE = _NAME = "fed_unlearn.bundle"
_LENGTH_BYTES = 8

_Size = Annotated[int, Field(ge=0)]
_INDEX = TypeAdapter(list[tuple[str, str, tuple[_Size, ...], str, _Size]])
"""Name, dtype, shape, stype and number of bytes of each array."""


def bundled(content: RecordDict) -> RecordDict:
    """The same records, with every ArrayRecord of several arrays as a bundle.

    Parameters
    ----------
    content : RecordDict
        The records. They stay as they are. Those that are not bundled are shared with the result.
    """
    return RecordDict(
        {
            name: _bundle(record) if isinstance(record, ArrayRecord) and len(record) > 1 else record
            for name, record in content.items()
        }
    )


def is_bundled(content: RecordDict) -> bool:
    """Whether there is a bundle among the records."""
    return any(_bundle_in(record) is not None for record in content.values())


def unbundled(content: RecordDict) -> RecordDict:
    """The records that :func:`bundled` was given, bit for bit.

    Raises
    ------
    ProtocolError
        If a bundle is malformed. It may come from anyone: nothing in it is executed, and it takes no more memory than
        its own bytes.
    """
    whole = RecordDict()
    for name, record in content.items():
        bundle = _bundle_in(record)
        whole[name] = record if bundle is None else _opened(bundle.data)
    return whole


def _bundle_in(record: object) -> Array | None:
    if isinstance(record, ArrayRecord) and len(record) == 1 and _NAME in record:
        array = record[_NAME]
        return array if array.stype == _STYPE else None
    return None


def _bundle(record: ArrayRecord) -> ArrayRecord:
    index = [(name, item.dtype, tuple(item.shape), item.stype, len(item.data)) for name, item in record.items()]
    head = json.dumps(index).encode()
    data = b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, *(item.data for item in record.values())))
    return ArrayRecord({_NAME: Array("uint8", (len(data),), _STYPE, data)})


def _opened(data: bytes) -> ArrayRecord:
    view = memoryview(data)
    start = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "little")
    try:
        index = _INDEX.validate_json(bytes(view[_LENGTH_BYTES:start]))
    except ValidationError:
        raise ProtocolError("a bundle of arrays whose index cannot be read") from None
    record = ArrayRecord()
    for name, dtype, shape, stype, size in index:
        if name in record:
            raise ProtocolError("a bundle of arrays with one name twice")
        record[name] = Array(dtype, shape, stype, bytes(view[start : start + size]))
        start += size
    if start != len(data):
        raise ProtocolError("a bundle of arrays whose sizes are not those of its data")
    return record
