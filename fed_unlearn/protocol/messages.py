"""What messages and replies carry beside their instruction, and the functions that write and read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.audits.base import is_count
from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, ProtocolError
from fed_unlearn.protocol import bounded
from fed_unlearn.protocol.bounded import CutText, Name, ShortText
from fed_unlearn.protocol.faults import error_line
from fed_unlearn.protocol.identity import id_problem
from fed_unlearn.protocol.instructions import ARRIVALS_KEY, INSTRUCTION_KEY, Instruction
from fed_unlearn.text import printable

ARRAYS_KEY = "arrays"
CONFIG_KEY = "config"
METRICS_KEY = "metrics"

WEIGHT = "num-examples"
FORWARD_PASSES = "forward-passes"
BACKWARD_PASSES = "backward-passes"

_LONGEST_REASON = 10_000
_PRINTED = 400


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
    """A count of a reply's metrics; 0 where it is absent, or no number above 0 that fits 63 bits."""
    value = read_metric(message, name)
    return int(value) if is_count(value) else 0


def read_counts(message: Message, name: str) -> list[int]:
    """A list of counts of a reply's metrics; empty where it is absent, too long, or holds anything but counts."""
    for record in message.content.values():
        if isinstance(record, MetricRecord):
            counts = bounded.whole_counts(record.get(name))
            if counts is not None:
                return counts
    return []


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


STAMP_KEY = "fed-unlearn"


class Stamp(BaseModel):
    """Facts about its client in every reply of an installed app."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    client_id: Name
    tombstones: ShortText
    retained: bool
    """Whether the handler took its data through :func:`fed_unlearn.client.retained`."""
    version: CutText
    device: CutText
    cuda_visible_devices: CutText
    requested: int = 0
    """Number of samples that are quarantined or tombstoned for requests of the ledger that asks, request by request."""
    answers: ShortText = ""
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


def id_problem_of(message: Message) -> str | None:
    """What is wrong with the client id of a reply; None where there is none, or nothing is wrong with it."""
    record = message.content.get(STAMP_KEY) if message.has_content() else None
    if not isinstance(record, ConfigRecord) or not isinstance(client := record.get("client_id"), str):
        return None
    return id_problem(client)


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
        return bounded.counts_by_name(record.get("counts")), bounded.texts_by_name(record.get("refused"))
    except ProtocolError:
        return None


def write_earlier_tombstones(message: Message, digest: str) -> None:
    """Put on a reply the tombstone digest that the client has without the tombstones of some requests.

    On ``train.confirm`` it is the digest from before the client wrote any.
    """
    message.content[_EARLIER_KEY] = ConfigRecord({"tombstones": digest})


def read_earlier_tombstones(message: Message) -> str | None:
    """What :func:`write_earlier_tombstones` wrote; None if there is no such record, or a malformed one."""
    record = message.content.get(_EARLIER_KEY)
    digest = record.get("tombstones") if isinstance(record, ConfigRecord) else None
    return digest if isinstance(digest, str) and (not digest or bounded.is_name(digest)) else None


class Refusal(BaseModel):
    """Why a client did not do what was asked, without anything about its data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reason: CutText
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
    """Why a client's app failed: of the runtime's reason, which may be a whole traceback, the line of the error.

    Parameters
    ----------
    message : Message
        A reply that is an error.
    """
    reason = message.error.reason or ""
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_PRINTED]}\n{reason[-_LONGEST_REASON:]}"
    return printable(error_line(reason)) or "an error without a reason"


_UNCOUNTED_KEY = "uncounted"


def audit_record(counts: ClientCounts) -> MetricRecord:
    """The counts as a MetricRecord; :func:`read_audit` reads them back."""
    record = MetricRecord({FORWARD_PASSES: counts.forward_passes})
    for part, counted in counts.parts.items():
        record[f"{part}/correct"] = list(counted.correct)
        record[f"{part}/total"] = list(counted.total)
    for request_id, target in counts.targets.items():
        for name, value in target.to_numbers().items():
            record[f"{'audit' if '/' in name else 'target'}/{name}/{request_id}"] = value
    return record


def read_audit(message: Message) -> ClientCounts:
    """Read the counts of a reply.

    Raises
    ------
    ProtocolError
        If the counts are malformed.
    """
    parts: dict[str, dict[str, object]] = {}
    targets: dict[str, dict[str, object]] = {}
    forward = 0
    metrics = message.content.get(METRICS_KEY)
    if isinstance(metrics, MetricRecord) and len(metrics) > bounded.LONGEST_LIST:
        raise ProtocolError("an evaluate.audit reply whose counts are malformed")
    for key, value in (metrics if isinstance(metrics, MetricRecord) else MetricRecord()).items():
        match key.split("/", 3 if key.startswith("audit/") else 2):
            case ["audit", audit, name, request_id]:
                targets.setdefault(request_id, {})[f"{audit}/{name}"] = value
            case ["target", name, request_id]:
                targets.setdefault(request_id, {})[name] = value
            case [part, name]:
                parts.setdefault(part, {})[name] = value
            case [name] if name == FORWARD_PASSES:
                forward = bounded.whole_count(value) or 0
    try:
        return ClientCounts.from_numbers(parts, targets, forward)
    except (InvalidDataError, InvalidParameterError) as error:
        raise ProtocolError("an evaluate.audit reply whose counts are malformed") from error


def write_uncounted(message: Message, audits: Sequence[str]) -> None:
    """Put on a reply the names of the audits that were asked for and that the client cannot count."""
    message.content[_UNCOUNTED_KEY] = ConfigRecord({"audits": json.dumps(list(audits))})


def read_uncounted(message: Message) -> tuple[str, ...]:
    """What :func:`write_uncounted` wrote; empty if it was not called."""
    record = message.content.get(_UNCOUNTED_KEY)
    try:
        return bounded.texts(record.get("audits")) if isinstance(record, ConfigRecord) else ()
    except ProtocolError:
        return ()
