"""Which arrays a client's model has as rows of its output layer, as it says on ``query.identify``."""

from __future__ import annotations

from flwr.app import ConfigRecord, Message

from fed_unlearn.output_rows import OutputRows
from fed_unlearn.protocol import bounded

_KEY = "output-layer"


def write_output_rows(reply: Message, rows: OutputRows | None) -> None:
    """Put on a reply the names of the arrays; nothing where the model has no plain rows."""
    if rows is not None:
        reply.content[_KEY] = ConfigRecord({"weight": rows.weight, "bias": rows.bias or ""})


def read_output_rows(reply: Message) -> OutputRows | None:
    """What :func:`write_output_rows` wrote; None where the client names none, or not readably."""
    record = reply.content.get(_KEY) if reply.has_content() else None
    if not isinstance(record, ConfigRecord):
        return None
    weight, bias = record.get("weight"), record.get("bias")
    if not isinstance(weight, str) or not isinstance(bias, str) or not bounded.is_name(weight):
        return None
    return OutputRows(weight, bias or None) if not bias or bounded.is_name(bias) else None
