"""How a client's counts travel: the metrics of an ``evaluate.audit`` reply."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flwr.app import ConfigRecord, Message, MetricRecord

from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, ProtocolError
from fed_unlearn.protocol.records import FORWARD_PASSES, METRICS_KEY, is_count

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
    for key, value in (metrics if isinstance(metrics, MetricRecord) else MetricRecord()).items():
        match key.split("/", 3 if key.startswith("audit/") else 2):
            case ["audit", audit, name, request_id]:
                targets.setdefault(request_id, {})[f"{audit}/{name}"] = value
            case ["target", name, request_id]:
                targets.setdefault(request_id, {})[name] = value
            case [part, name]:
                parts.setdefault(part, {})[name] = value
            case [name] if name == FORWARD_PASSES:
                forward = int(value) if not isinstance(value, list) and is_count(value) else 0
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
        return tuple(map(str, json.loads(str(record["audits"])))) if isinstance(record, ConfigRecord) else ()
    except (KeyError, ValueError, TypeError):
        return ()
