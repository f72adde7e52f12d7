"""Messages say which attempts they belong to, and replies whether something was put by."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fed_unlearn import ForgetRequest, protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.simulations.inprocess import set_task_identity
from fed_unlearn.strategies.clients.messages.runtime import with_ledger

FIRST = protocol.RequestAttempt.numbered(ForgetRequest.for_class(3, id="a"), 1)
SECOND = protocol.RequestAttempt.numbered(ForgetRequest.for_client(2, id="b"), 4)


def message(**records: ConfigRecord) -> Message:
    set_task_identity()
    return Message(RecordDict(dict(records)), 1, protocol.TRAIN)


def test_a_message_says_which_attempts_it_belongs_to() -> None:
    [told] = with_ledger([message()], "the-ledger", [FIRST, SECOND])
    assert protocol.attempts_of(told) == (FIRST, SECOND)
    assert protocol.ledger_of(told) == "the-ledger"
    assert json.loads(str(told.content.config_records[protocol.LEDGER_KEY]["attempts"]))[1]["attempt"] == 4


def test_outside_of_attempts_nothing_is_said() -> None:
    [told] = with_ledger([message()], "the-ledger")
    assert "attempts" not in told.content.config_records[protocol.LEDGER_KEY]
    assert protocol.attempts_of(told) == protocol.attempts_of(message()) == ()


@pytest.mark.parametrize("said", ["", "{}", '[{"request_id": "a"}]', '[{"request_id": "a", "attempt": "x"}]'])
def test_malformed_attempts_are_refused(said: str) -> None:
    with pytest.raises(ProtocolError, match="a train message with malformed attempts"):
        protocol.attempts_of(message(ledger=ConfigRecord({"attempts": said})))


def test_a_reply_says_whether_something_was_put_by() -> None:
    reply = Message(RecordDict(), reply_to=message())
    assert not protocol.has_put_by(reply)
    protocol.write_put_by(reply)
    assert protocol.has_put_by(reply)


def test_others_are_left_out_where_there_are_none() -> None:
    """Clients of older versions take no field that they do not know."""
    target = protocol.Target.of(ForgetRequest.for_class(3, id="a"), 1)
    alone = protocol.SettleInstruction(targets=(target,))
    assert "others" not in json.loads(alone.model_dump_json())
    told = protocol.SettleInstruction(targets=(), others=(SECOND,))
    assert protocol.SettleInstruction.model_validate_json(told.model_dump_json()) == told
