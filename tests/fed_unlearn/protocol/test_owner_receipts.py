"""Receipts are read within bounds, and nodes say that they keep them in a record that others do not read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fed_unlearn import protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.simulations.inprocess import set_task_identity

ID, KEY = "0123456789abcdef", "ab" * 32
ITEM: dict[str, Any] = {"owner_request": ID, "text": "a receipt", "key": KEY}


def carrying(record: ConfigRecord | MetricRecord | None) -> Message:
    set_task_identity()
    records = {} if record is None else {protocol.RECEIPTS_KEY: record}
    return Message(RecordDict(records), 1, protocol.REQUESTS)


def holding(*items: object, **more: object) -> ConfigRecord:
    return ConfigRecord({"receipts": json.dumps({"receipts": items, **more})})


def test_receipts_come_back_as_they_were_written() -> None:
    receipts = [protocol.OwnerReceipt(owner_request=f"{number:016x}", text='é\n"', key=KEY) for number in range(9)]
    assert protocol.read_receipts(carrying(protocol.receipts_record(receipts))) == tuple(receipts[:8])
    assert protocol.read_receipts(carrying(None)) == ()


def test_what_a_newer_server_adds_is_left_unread() -> None:
    [found] = protocol.read_receipts(carrying(holding({**ITEM, "page": "..."}, more=1)))
    assert found.text == "a receipt"


HOSTILE = {
    "a record of another kind": MetricRecord({"receipts": 1}),
    "no text": ConfigRecord({"receipts": 3}),
    "another key": ConfigRecord({"others": "{}"}),
    "no JSON": ConfigRecord({"receipts": "{"}),
    "nested": ConfigRecord({"receipts": "[" * 60_000}),
    "too long": ConfigRecord({"receipts": json.dumps({"receipts": []}) + " " * 2**21}),
    "too many": holding(*[ITEM] * 9),
    "a long receipt": holding({**ITEM, "text": "x" * (2**16 + 1)}),
    "an empty one": holding({**ITEM, "text": ""}),
    "no text in it": holding({**ITEM, "text": 3}),
    "a path for an id": holding({**ITEM, "owner_request": "../../../etc/pwd"}),
    "no id": holding({"text": "x", "key": KEY}),
    "no key": holding({**ITEM, "key": "-----BEGIN"}),
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_a_record_that_is_none_is_an_error_that_repeats_nothing(record: ConfigRecord | MetricRecord) -> None:
    with pytest.raises(ProtocolError) as caught:
        protocol.read_receipts(carrying(record))
    assert len(str(caught.value)) < 200 and "etc" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ProtocolError):
        assert protocol.read_receipts(carrying(ConfigRecord({"receipts": text}))) == ()


def test_a_receipt_that_no_node_would_read_is_none() -> None:
    with pytest.raises(ValidationError):
        protocol.OwnerReceipt(owner_request=ID, text="x" * (protocol.LONGEST_RECEIPT + 1), key=KEY)


def test_only_a_node_that_says_so_keeps_receipts() -> None:
    message = carrying(None)
    assert not protocol.keeps_receipts(message)
    protocol.write_keeps_receipts(message)
    assert protocol.keeps_receipts(message)
    [name] = message.content
    for other in (ConfigRecord({"keeps": 1}), ConfigRecord({}), MetricRecord({"keeps": 1})):
        message.content[name] = other
        assert not protocol.keeps_receipts(message)
