"""What a client is told of when its samples arrive, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from federation import DigitsTask, digits_of, initial_arrays, make_federation
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fed_unlearn import protocol
from fed_unlearn.client.store import ClientStore
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.errors import InvalidParameterError, ProtocolError
from fed_unlearn.protocol.instructions import NEVER, arrivals_of, arrivals_record, arriving
from fed_unlearn.simulations.inprocess import set_task_identity


def client(ids: str = "abcdef") -> ClientData:
    images = ImageSet(torch.zeros(len(ids), 1, 2, 2), torch.zeros(len(ids), dtype=torch.int64), list(ids))
    return ClientData(images, images, images, class_count=1, fingerprint="f")


def message(record: ConfigRecord | MetricRecord | None) -> Message:
    set_task_identity()
    records = {} if record is None else {protocol.ARRIVALS_KEY: record}
    return Message(RecordDict(records), dst_node_id=1, message_type="train")


def test_the_record_says_what_was_written_whatever_the_ids_are() -> None:
    experiences = {3: ["a,b", 'quoted "c"'], 1: ("new\nline", "é", "\x1f")}
    assert arrivals_of(message(arrivals_record(experiences))) == (
        ("new\nline", "é", "\x1f"),
        (),
        ("a,b", 'quoted "c"'),
    )
    assert arrivals_of(message(arrivals_record({}))) == ()
    assert arrivals_of(message(None)) is None


@pytest.mark.parametrize(
    ("experiences", "expected"),
    [
        ({0: ["a"], 1: ["b"]}, "experience 0 was given; expected numbers from 1"),
        ({1: ["a"], 2: ["b", "a"]}, "sample 'a' was given twice; expected each in one experience"),
        ({2: ["b", "b"]}, "sample 'b' was given twice"),
    ],
)
def test_arrivals_that_cannot_be_are_not_written(experiences: dict[int, list[str]], expected: str) -> None:
    with pytest.raises(InvalidParameterError, match=expected):
        arrivals_record(experiences)


@pytest.mark.parametrize(
    "record",
    [
        MetricRecord({"sample-ids": 1}),
        ConfigRecord({}),
        ConfigRecord({"sample-ids": "[[]]", "more": 1}),
        ConfigRecord({"sample-ids": 3}),
        ConfigRecord({"sample-ids": "[["}),
        ConfigRecord({"sample-ids": '{"1": ["a"]}'}),
        ConfigRecord({"sample-ids": '["a"]'}),
        ConfigRecord({"sample-ids": "[[1]]"}),
        ConfigRecord({"sample-ids": '[["a"], ["a"]]'}),
    ],
)
def test_malformed_arrivals_are_refused_without_their_content(record: ConfigRecord | MetricRecord) -> None:
    with pytest.raises(ProtocolError) as caught:
        arrivals_of(message(record))
    assert str(caught.value) == "a train message with malformed arrivals"


def test_samples_arrive_with_their_experience_and_the_others_never() -> None:
    data = arriving(client(), [["d", "a"], [], ["c"]])
    assert data.experiences is not None
    assert data.experiences.tolist() == [1, NEVER, 3, 1, NEVER, NEVER]
    assert [data.of_experience(number).ids for number in (1, 2, 3, 4)] == [("a", "d"), (), ("c",), ()]
    assert [data.arrived(number).ids for number in (1, 2, 3, 99, 2**62)] == [
        ("a", "d"),
        ("a", "d"),
        *[("a", "c", "d")] * 3,
    ]
    assert data.arrived(0).ids == data.train.ids  # a message that knows of no experiences
    with pytest.raises(ProtocolError, match="2 of the 3 samples of its arrivals are no training samples here"):
        arriving(client(), [["a", "x"], ["y"]])


def test_digests_of_messages_leave_arrivals_out() -> None:
    plain, told = message(None), message(arrivals_record({1: ["a"]}))
    assert protocol.digest_of(plain) == protocol.digest_of(told)


def test_a_client_goes_by_the_message_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    """An audit counts the retained samples that have arrived by the message's own arrivals."""
    task = DigitsTask()
    federation = make_federation(tmp_path, clients=2, task=task)
    ids = digits_of(0).train.ids
    audit = protocol.AuditInstruction(parts=("retain",), targets=(), retain_limit=0, seed=0, arrived=1)

    def counted(record: ConfigRecord | None) -> int | str:
        content = protocol.content(audit, initial_arrays())
        if record is not None:
            content[protocol.ARRIVALS_KEY] = record
        [reply] = federation.grid.send_and_receive([Message(content, dst_node_id=1, message_type=protocol.AUDIT)])
        refusal = protocol.refusal_of(reply)
        if refusal is not None:
            assert protocol.read_stamp(reply) is not None
            return refusal.reason
        return sum(protocol.read_audit(reply).parts["retain"].total)

    assert counted(arrivals_record({1: ids[:30], 2: ids[30:90]})) == 30
    assert counted(arrivals_record({1: ids[:70]})) == 70
    assert counted(None) == len(ids)
    assert counted(ConfigRecord({"sample-ids": "?"})) == "client 0: a evaluate.audit message with malformed arrivals"
    assert counted(arrivals_record({1: ["nobody's"]})) == (
        "client 0: 1 of the 1 samples of its arrivals are no training samples here"
    )
    assert counted(None) == len(ids)


def test_a_confirmation_with_malformed_arrivals_tombstones_nothing(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, clients=1)
    target = protocol.Target(request_id="r1", attempt=1, scope="client")
    for record, tombstoned in ((ConfigRecord({"sample-ids": "[[7]]"}), False), (arrivals_record({}), True)):
        content = protocol.content(protocol.SettleInstruction(targets=(target,)))
        content[protocol.ARRIVALS_KEY] = record
        [reply] = federation.grid.send_and_receive([Message(content, dst_node_id=1, message_type=protocol.CONFIRM)])
        refusal = protocol.refusal_of(reply)
        assert (refusal is None) == tombstoned
        store = ClientStore.open(tmp_path / "clients" / "0", digits_of(0).fingerprint)
        assert store.tombstoned_ids() == (set(digits_of(0).train.ids) if tombstoned else set())
