"""How a client's counts travel: the metrics of an ``evaluate.audit`` reply."""

from __future__ import annotations

from flwr.app import Message, MetricRecord
from pydantic import ValidationError

from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.records import FORWARD_PASSES, METRICS_KEY, is_count


def audit_record(counts: ClientCounts) -> MetricRecord:
    """The counts as a MetricRecord; :func:`read_audit` reads them back."""
    record = MetricRecord({FORWARD_PASSES: counts.forward_passes})
    for part, counted in counts.parts.items():
        record[f"{part}/correct"] = list(counted.correct)
        record[f"{part}/total"] = list(counted.total)
    for request_id, target in counts.targets.items():
        for name, value in target.model_dump().items():
            record[f"target/{name}/{request_id}"] = value
    return record


def read_audit(message: Message) -> ClientCounts:
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
                forward = int(value) if not isinstance(value, list) and is_count(value) else 0
    try:
        return ClientCounts.model_validate({"parts": parts, "targets": targets, "forward_passes": forward})
    except ValidationError as error:
        raise ProtocolError("an evaluate.audit reply whose counts are malformed") from error
