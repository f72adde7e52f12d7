"""Arrays that replies leave out, since the receiver has them: those that the client has not changed."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Message

from fed_unlearn.protocol.messages import arrays_of
from fed_unlearn.protocol.versions import LEAVES_OUT_EQUAL_ARRAYS, Versions


def changed_arrays(message: Message, arrays: ArrayRecord) -> ArrayRecord:
    """A model to reply with, without the arrays that equal those that the message brought, bit for bit.

    Parameters
    ----------
    message : Message
        What is replied to. For a server that does not know of it, nothing is left out.
    arrays : ArrayRecord
        The client's model.
    """
    if Versions.of_server(message).protocol < LEAVES_OUT_EQUAL_ARRAYS:
        return arrays
    sent, changed = arrays_of(message), ArrayRecord()
    for name, array in arrays.items():
        if name not in sent or not _same_bits(array, sent[name]):
            changed[name] = array
    return changed


def _same_bits(first: Array, second: Array) -> bool:
    return (first.dtype, tuple(first.shape), first.data) == (second.dtype, tuple(second.shape), second.data)
