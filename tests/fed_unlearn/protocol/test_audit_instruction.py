"""How many samples an audit reads: what clients of older versions do not know stands where they do not look."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.inprocess import set_task_identity

TARGETS = tuple(protocol.Target.of(ForgetRequest.for_class(label, id=f"r{label}")) for label in (1, 2))
PLAIN = {"parts": ("retain", "validation", "test"), "targets": TARGETS, "retain_limit": 5, "seed": 0}


def through(instruction: protocol.AuditInstruction, **changed: str) -> protocol.AuditInstruction:
    set_task_identity()
    record = ConfigRecord({**instruction.to_record(), **changed})
    records = RecordDict({protocol.INSTRUCTION_KEY: record})
    return protocol.AuditInstruction.from_message(Message(records, dst_node_id=1, message_type=protocol.AUDIT))


@pytest.mark.parametrize("limits", [{}, {"test_limit": 3}, {"validation_limit": 2, "earlier_limit": 1}])
@pytest.mark.parametrize("audits", [(), ("logit_auc",)])
def test_limits_arrive_and_older_clients_read_what_they_know(limits: dict[str, int], audits: tuple[str, ...]) -> None:
    instruction = protocol.AuditInstruction(**PLAIN, **limits, audits=audits, audited=("r1",))  # type: ignore[arg-type]
    arrived = through(instruction)
    assert [arrived.limit_of(part) for part in ("retain", "validation", "test")] == [
        5,
        limits.get("validation_limit", 0),
        limits.get("test_limit", 0),
    ]
    if "earlier_limit" in limits:
        assert [arrived.limit_beside(target) for target in TARGETS] == [0, limits["earlier_limit"]]
    known = {"parts", "targets", "retain_limit", "seed", "arrived", *(["audits"] if audits else [])}
    assert set(json.loads(str(instruction.to_record()[protocol.INSTRUCTION_KEY]))) == known


@pytest.mark.parametrize(
    "limits", ["", "[]", "{}", '{"test_limit": "many", "validation_limit": 0, "earlier_limit": 0}']
)
def test_malformed_limits_are_refused(limits: str) -> None:
    with pytest.raises(ProtocolError, match="malformed instruction"):
        through(protocol.AuditInstruction(**PLAIN), limits=limits)  # type: ignore[arg-type]


def test_rows_that_were_set_arrive_beside_and_only_where_some_were() -> None:
    instruction = protocol.AuditInstruction(**PLAIN, rows_set=(3,), rows_of=(0, 1, 2))  # type: ignore[arg-type]
    arrived = through(instruction)
    assert (arrived.rows_set, arrived.rows_of) == ((3,), (0, 1, 2))
    assert "rows_set" not in str(instruction.to_record()[protocol.INSTRUCTION_KEY])
    assert "rows" not in protocol.AuditInstruction(**PLAIN).to_record()  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="malformed instruction"):
        through(instruction, rows='{"rows_set": [3]}')
