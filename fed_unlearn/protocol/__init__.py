"""Every message type and record key of the wire protocol, with the functions that write and read them.

An instruction travels as JSON in one ConfigRecord, beside the arrays; what comes back is arrays, counts and sums in a
MetricRecord, and facts about the client in a ConfigRecord. No reply contains samples, labels of samples, or text of
exceptions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.arrivals import ARRIVALS_KEY, arrivals_of, arrivals_record
from fed_unlearn.protocol.instructions import (
    ALL_PARTS,
    INSTRUCTION_KEY,
    AuditInstruction,
    IdentifyInstruction,
    Instruction,
    Part,
    RepairInstruction,
    SettleInstruction,
    Target,
    UnlearnInstruction,
)

__all__ = [
    "ALL_PARTS",
    "ARRIVALS_KEY",
    "AuditInstruction",
    "AuditReply",
    "IdentifyInstruction",
    "Part",
    "Refusal",
    "RepairInstruction",
    "RequestCounts",
    "SettleInstruction",
    "Stamp",
    "Target",
    "UnlearnInstruction",
    "arrivals_of",
    "arrivals_record",
]

TRAIN = "train"
UNLEARN = "train.unlearn"
REPAIR = "train.repair"
CONFIRM = "train.confirm"
DISCARD = "train.discard"
AUDIT = "evaluate.audit"
IDENTIFY = "query.identify"
REQUESTS = "query.requests"
EVALUATE = "evaluate"

READS_SAMPLES = frozenset({TRAIN, EVALUATE, UNLEARN, REPAIR, CONFIRM, AUDIT})
"""Messages that a client answers by its samples: they say which of these have arrived, where not all have."""

ARRAYS_KEY = "arrays"
CONFIG_KEY = "config"
METRICS_KEY = "metrics"
STAMP_KEY = "fed-unlearn"

WEIGHT = "num-examples"
FORWARD_PASSES = "forward-passes"
BACKWARD_PASSES = "backward-passes"
_REFUSED = "refused"
_FORGOTTEN_KEY = "forgotten"
_EARLIER_KEY = "earlier"


class Stamp(BaseModel):
    """What every reply of an installed app says of its client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str
    tombstones: str
    retained: bool
    """Whether the handler took its data through :func:`fed_unlearn.client.retained`."""
    version: str
    device: str
    cuda_visible_devices: str
    answers: str = ""
    """Digest of the configuration that is answered: an answer to an older message has another one."""


class RequestCounts(BaseModel):
    """One client's share of what is measured of one request.

    ``member_histogram``, ``outsider_histogram`` and ``unseen_histogram`` are of the confidence in forget samples, in
    test samples, and in the validation samples that no method reads, of the same classes. ``class_totals`` counts the
    samples by class where a whole client is forgotten.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    correct: int = 0
    total: int = 0
    member_histogram: list[int] = []
    outsider_histogram: list[int] = []
    unseen_histogram: list[int] = []
    class_totals: list[int] = []


class AuditReply(BaseModel):
    """One client's counts, or the sum of several clients'."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[Part, ClassCounts]
    targets: dict[str, RequestCounts]
    forward_passes: int

    def to_record(self) -> MetricRecord:
        """The counts as a MetricRecord; :meth:`from_message` reads them back."""
        record = MetricRecord({FORWARD_PASSES: self.forward_passes})
        for part, counts in self.parts.items():
            record[f"{part}/correct"] = list(counts.correct)
            record[f"{part}/total"] = list(counts.total)
        for request_id, target in self.targets.items():
            for name, value in target.model_dump().items():
                record[f"target/{name}/{request_id}"] = value
        return record

    @classmethod
    def from_message(cls, message: Message) -> AuditReply:
        """Read the counts of a reply.

        Raises
        ------
        ProtocolError
            If they are not such counts.
        """
        parts: dict[str, dict[str, object]] = {}
        targets: dict[str, dict[str, object]] = {}
        forward = 0
        metrics = message.content.get(METRICS_KEY)
        for key, value in (metrics if isinstance(metrics, MetricRecord) else MetricRecord()).items():
            match key.split("/", 2):
                case ["target", name, request_id]:
                    targets.setdefault(request_id, {})[name] = value
                case [part, name]:
                    parts.setdefault(part, {})[name] = value
                case [name] if name == FORWARD_PASSES:
                    forward = int(value) if not isinstance(value, list) and _is_count(value) else 0
        try:
            return cls.model_validate({"parts": parts, "targets": targets, "forward_passes": forward})
        except ValidationError as error:
            raise ProtocolError("an evaluate.audit reply whose counts are malformed") from error


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


def write_forgotten(message: Message, counts: Mapping[str, int], refused: Mapping[str, str]) -> None:
    """Put on a reply how many samples each request has here, and which requests cannot be served here and why."""
    message.content[_FORGOTTEN_KEY] = ConfigRecord({"counts": json.dumps(counts), "refused": json.dumps(refused)})


def read_forgotten(message: Message) -> tuple[dict[str, int], dict[str, str]] | None:
    """What :func:`write_forgotten` wrote; None where nothing or something else was."""
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
    """Put on a reply the tombstone digest that the client would show without the tombstones of some requests.

    On ``train.confirm`` it is the one that it would have shown before it wrote any.
    """
    message.content[_EARLIER_KEY] = ConfigRecord({"tombstones": digest})


def read_earlier_tombstones(message: Message) -> str | None:
    """What :func:`write_earlier_tombstones` wrote; None where nothing was."""
    record = message.content.get(_EARLIER_KEY)
    return str(record.get("tombstones")) if isinstance(record, ConfigRecord) else None


def digest_of(message: Message) -> str:
    """Digest of a message's type and configuration: what tells a round's messages from those of any other.

    The arrivals of a client are no part of it: they are long, and the same in all messages of a run.
    """
    said = {
        name: sorted((key, repr(value)) for key, value in record.items())
        for name, record in message.content.items()
        if isinstance(record, ConfigRecord) and name != ARRIVALS_KEY
    }
    text = json.dumps([message.metadata.message_type, sorted(said.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Refusal(BaseModel):
    """Why a client did not do what was asked, in words that hold nothing of its data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    invalid_request: bool
    """Whether the request itself cannot be served; else something went wrong in serving it."""


def refuse(message: Message, refusal: Refusal) -> Message:
    """A client's reply that it did not do what was asked."""
    return Message(RecordDict({_REFUSED: ConfigRecord(refusal.model_dump())}), reply_to=message)


def refusal_of(message: Message) -> Refusal | None:
    """Why a client refused; None where it did not."""
    record = message.content.get(_REFUSED)
    if not isinstance(record, ConfigRecord):
        return None
    try:
        return Refusal.model_validate(dict(record))
    except ValidationError:
        return Refusal(reason="a refusal that cannot be read", invalid_request=False)


def error_of(message: Message) -> str:
    """Why a client's app failed: the last line of what the runtime says, which may be a whole traceback.

    Parameters
    ----------
    message : Message
        A reply that is an error.
    """
    lines = [line.strip() for line in (message.error.reason or "").splitlines() if line.strip()]
    return lines[-1] if lines else "an error without a reason"


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
    return int(value) if _is_count(value) else 0


def read_counts(message: Message, name: str) -> list[int]:
    """A list of counts of a reply's metrics; empty where it is absent, or holds anything but counts."""
    for record in message.content.values():
        if isinstance(record, MetricRecord):
            value = record.get(name)
            if isinstance(value, list) and all(_is_count(item) for item in value):
                return [int(item) for item in value]
    return []


def _is_count(value: float) -> bool:
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
