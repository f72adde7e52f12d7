"""What replies say of owners' requests is read within bounds, and what servers answer too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn import protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.owner import OwnerAnswer, QueuedRequest
from fed_unlearn.protocol.owners import OwnerNote
from fed_unlearn.requests import ForgetRequest, SampleScope
from fed_unlearn.simulations.inprocess import set_task_identity

ID = "0123456789abcdef"
ITEM: dict[str, Any] = {"owner_request": ID, "kind": "samples", "count": 3}


def message_with(name: str, record: ConfigRecord | MetricRecord) -> Message:
    set_task_identity()
    return Message(RecordDict({name: record}), 1, protocol.REQUESTS)


def carrying(record: ConfigRecord | MetricRecord) -> Message:
    return message_with(protocol.QUEUED_KEY, record)


def noted(*items: object, **more: object) -> ConfigRecord:
    return ConfigRecord({"note": json.dumps({"queued": list(items), **more})})


def test_a_note_comes_back_as_it_was_written() -> None:
    message = message_with("metrics", MetricRecord({"queued": 2}))
    assert protocol.read_owner_note(message) is None
    items = (
        QueuedRequest(owner_request=ID, kind="class", count=4, of_class=7, goal="relabel", deadline=1e9),
        QueuedRequest(owner_request="f" * 16, kind="all", state="refused", reason="because"),
    )
    note = OwnerNote(queued=items, heard=(ID,))
    protocol.write_owner_note(message, note)
    assert protocol.read_owner_note(message) == note
    assert protocol.QUEUED_KEY not in protocol.without_records(message, protocol.QUEUED_KEY).content
    assert protocol.QUEUED_KEY in message.content


HOSTILE = {
    "a record of another kind": MetricRecord({"note": 1}),
    "no text": ConfigRecord({"note": 3}),
    "another record": ConfigRecord({"note": "{}", "more": "x"}),
    "no JSON": ConfigRecord({"note": "{"}),
    "a list": ConfigRecord({"note": "[]"}),
    "nested": ConfigRecord({"note": "[" * 60_000}),
    "too long": ConfigRecord({"note": '{"heard":[' + " " * 2**17 + "]}"}),
    "too many": noted(*({**ITEM, "owner_request": f"{number:016x}"} for number in range(33))),
    "too many heard": noted(heard=[f"{number:016x}" for number in range(33)]),
    "one twice": noted(ITEM, ITEM),
    "a negative count": noted({**ITEM, "count": -1}),
    "no count": noted({**ITEM, "count": 0}),
    "a count beyond all": noted({**ITEM, "count": 2**41}),
    "a fraction": noted({**ITEM, "count": 1.5}),
    "a text for a count": noted({**ITEM, "count": "3"}),
    "true for a count": noted({**ITEM, "count": True}),
    "a class without that kind": noted({**ITEM, "of_class": 3}),
    "no class for that kind": noted({**ITEM, "kind": "class"}),
    "a negative class": noted({**ITEM, "kind": "class", "of_class": -3}),
    "all with a count": noted({**ITEM, "kind": "all"}),
    "another kind": noted({**ITEM, "kind": "everybody"}),
    "another goal": noted({**ITEM, "goal": "plant"}),
    "a deadline of nothing": ConfigRecord({"note": json.dumps({"queued": [{**ITEM, "deadline": 1e999}]})}),
    "a deadline beyond all": noted({**ITEM, "deadline": 1e300}),
    "another state": noted({**ITEM, "state": "committed"}),
    "a client": noted({**ITEM, "client": "3"}),
    "sample ids": noted({**ITEM, "sample_ids": ["a"]}),
    "a long id": noted({**ITEM, "owner_request": "0" * 17}),
    "an id with a name": noted({**ITEM, "owner_request": "owner-of-client1"}),
    "an id with a line": noted({**ITEM, "owner_request": ID + "\n"}),
    "a long reason": noted({**ITEM, "state": "refused", "reason": "x" * 1001}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_no_node_writes_is_refused_whole(kind: str) -> None:
    with pytest.raises(ProtocolError, match="owners' requests"):
        protocol.read_owner_note(carrying(HOSTILE[kind]))


def test_reasons_are_made_printable() -> None:
    note = protocol.read_owner_note(carrying(noted({**ITEM, "state": "refused", "reason": "\x1b[31m" + "y" * 900})))
    assert note is not None and note.queued[0].reason.startswith("\\x1b[31myy") and len(note.queued[0].reason) <= 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["queued", "heard", "owner_request", "kind", "count"]) | st.text(), inner)
        ),
    )
)
def test_whatever_stands_in_the_record_nothing_else_is_raised(body: object) -> None:
    try:
        note = protocol.read_owner_note(carrying(ConfigRecord({"note": json.dumps(body)})))
    except ProtocolError:
        return
    assert note is None or len(note.queued) <= protocol.MOST_IN_A_MESSAGE


def test_answers_come_back_with_the_same_digest() -> None:
    answer = OwnerAnswer(
        owner_request=ID, status="committed", request="owner-1", reason="a\nb", figures={"after/forget_accuracy": 0.1}
    )
    message = message_with(protocol.ANSWERS_KEY, protocol.answers_record([answer] * 40))
    read = protocol.read_answers(message)
    assert len(read) == protocol.MOST_IN_A_MESSAGE and read[0] == answer
    assert read[0].digest() == answer.digest() != answer.model_copy(update={"status": "held"}).digest()


@pytest.mark.parametrize("text", ["", "{}", '{"answers": [{}]}', "x" * 2**19, '{"answers": [{"owner_request": "a"}]}'])
def test_malformed_answers_are_refused(text: str) -> None:
    message = message_with(protocol.ANSWERS_KEY, ConfigRecord({"answers": text}))
    with pytest.raises(ProtocolError, match="answers to owners' requests"):
        protocol.read_answers(message)


def test_an_owners_request_travels_without_ids_and_others_as_before() -> None:
    own = ForgetRequest(SampleScope("7", count=3, queued=ID), id="x")
    target = protocol.Target.of(own, 1)
    assert (target.queued, target.sample_count, target.sample_ids) == (ID, 3, ())
    assert protocol.Target.model_validate_json(target.model_dump_json()) == target
    other = protocol.Target.of(ForgetRequest.for_samples("7", count=3, id="x"), 1)
    assert "queued" not in other.model_dump_json(), "clients of older versions refuse what they do not know"
    assert target.digest != other.digest
    assert ForgetRequest.from_json(own.to_json()) == own
    assert "samples" not in own.target(), "older versions would draw as many samples, and refuse it so"
