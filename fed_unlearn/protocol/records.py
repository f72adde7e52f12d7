"""Records of a message: their keys, the model and the configuration that it carries, and the numbers of a reply."""

from __future__ import annotations

import math

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.instructions import INSTRUCTION_KEY, Instruction

ARRAYS_KEY = "arrays"
CONFIG_KEY = "config"
METRICS_KEY = "metrics"

WEIGHT = "num-examples"
FORWARD_PASSES = "forward-passes"
BACKWARD_PASSES = "backward-passes"


def content(
    instruction: Instruction | None = None, arrays: ArrayRecord | None = None, config: ConfigRecord | None = None
) -> RecordDict:
    """Records of a message to a client."""
    records = RecordDict()
    if arrays is not None:
        records[ARRAYS_KEY] = arrays
    if config is not None:
        records[CONFIG_KEY] = config
    if instruction is not None:
        records[INSTRUCTION_KEY] = instruction.to_record()
    return records


def reply(message: Message, metrics: MetricRecord, arrays: ArrayRecord | None = None) -> Message:
    """A client's reply: counts and sums, and the changed model where there is one."""
    records = RecordDict({METRICS_KEY: metrics})
    if arrays is not None:
        records[ARRAYS_KEY] = arrays
    return Message(records, reply_to=message)


def read_metric(message: Message, name: str) -> float:
    """One number of a reply's metrics; 0 where it is absent or a list."""
    for record in message.content.values():
        if isinstance(record, MetricRecord):
            value = record.get(name)
            if isinstance(value, int | float):
                return value
    return 0


def read_count(message: Message, name: str) -> int:
    """A count of a reply's metrics; 0 where it is absent, or no finite number above 0."""
    value = read_metric(message, name)
    return int(value) if is_count(value) else 0


def read_counts(message: Message, name: str) -> list[int]:
    """A list of counts of a reply's metrics; empty where it is absent, or holds anything but counts."""
    for record in message.content.values():
        if isinstance(record, MetricRecord):
            value = record.get(name)
            if isinstance(value, list) and all(is_count(item) for item in value):
                return [int(item) for item in value]
    return []


def is_count(value: float) -> bool:
    """Whether a number is finite and not below 0."""
    return value >= 0 and (isinstance(value, int) or math.isfinite(value))


def arrays_of(message: Message) -> ArrayRecord:
    """The model that a message carries.

    Raises
    ------
    ProtocolError
        If it carries none.
    """
    record = message.content.get(ARRAYS_KEY)
    if not isinstance(record, ArrayRecord):
        raise ProtocolError(f"a {message.metadata.message_type} message without {ARRAYS_KEY!r}")
    return record


def config_of(message: Message) -> ConfigRecord:
    """The configuration that a message carries; an empty one where there is none."""
    record = message.content.get(CONFIG_KEY)
    return record if isinstance(record, ConfigRecord) else ConfigRecord()
