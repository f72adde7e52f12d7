"""Which messages say when a client's samples arrive, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from federation import FAST_PLAN, OPEN_GATE, Federation, digits_of, initial_arrays, make_federation, same_bytes
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from fed_unlearn import protocol
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.outcomes import UnlearningResult

Arrivals = Mapping[str, Mapping[int, Sequence[str]]]


def two_parts(client: int) -> dict[int, tuple[str, ...]]:
    ids = digits_of(client, 3).train.ids
    return {1: ids[::2], 2: ids[1::2]}


class Watching:
    """Remembers every message that a federation's grid is given."""

    def __init__(self, federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Message] = []
        send = federation.grid.send_and_receive

        def send_and_receive(messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            given = list(messages)
            self.sent += given
            return send(given, timeout=timeout)

        monkeypatch.setattr(federation.grid, "send_and_receive", send_and_receive)


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arrivals: Arrivals | None
) -> tuple[list[Message], list[Message], UnlearningResult]:
    """Train, forget a class: what was sent for the one, for the other, and what came of it."""
    federation = make_federation(folder, clients=3)
    federation.task.data_of = lambda client: digits_of(client, 3)
    watching = Watching(federation, monkeypatch)
    strategy = ContinualUnlearning(
        FedAvg(fraction_evaluate=1.0, min_available_nodes=3),
        ledger=folder / "ledger.db",
        gate=OPEN_GATE,
        plan=FAST_PLAN,
        arrivals=arrivals,
    )
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    training, watching.sent = watching.sent, []
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    return training, watching.sent, result


def test_every_message_that_samples_answer_says_when_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = {str(client): two_parts(client) for client in (0, 2)}  # client 1 is not named
    training, serving, told = run(tmp_path / "told", monkeypatch, arrivals)
    sent = training + serving
    records: dict[int, set[int]] = {}
    for message in sent:
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        record = message.content.get(protocol.ARRIVALS_KEY)
        if node == 2 or kind == protocol.IDENTIFY:
            assert record is None
            continue
        assert protocol.arrivals_of(message) == tuple(two_parts(node - 1).values())
        records.setdefault(node, set()).add(id(record))
    assert {node: len(found) for node, found in records.items()} == {1: 1, 3: 1}  # the ids are written once
    assert {message.metadata.message_type for message in sent} == {
        protocol.IDENTIFY,
        protocol.TRAIN,
        protocol.EVALUATE,
        protocol.UNLEARN,
        protocol.REPAIR,
        protocol.AUDIT,
        protocol.CONFIRM,
    }

    *plainly_sent, plain = run(tmp_path / "plain", monkeypatch, None)
    assert all(protocol.ARRIVALS_KEY not in message.content for part in plainly_sent for message in part)
    assert told.arrays is not None and plain.arrays is not None and same_bytes(told.arrays, plain.arrays)
    [costly], [cheap] = told.requests, plain.requests
    assert costly.traffic.messages == cheap.traffic.messages

    def more(client: int) -> int:
        record = protocol.arrivals_record(two_parts(client))
        return len(protocol.ARRIVALS_KEY) + sum(len(key) + len(str(value)) for key, value in record.items())

    assert costly.traffic.bytes_sent - cheap.traffic.bytes_sent == sum(
        more(message.metadata.dst_node_id - 1) for message in serving if protocol.ARRIVALS_KEY in message.content
    )


def test_messages_of_a_strategy_keep_their_own_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make_federation(tmp_path, clients=2)
    record = protocol.arrivals_record(two_parts(0))
    grid = EligibleGrid(federation.grid, arrivals={"0": record})
    grid.identify(2, 5.0, {})
    content = RecordDict({"arrays": initial_arrays(), "config": ConfigRecord({"server-round": 1})})
    messages = [Message(content, node, "train") for node in grid.get_node_ids()]
    first, second = list(grid.send_and_receive(messages))
    assert first.has_content() and second.has_content()
    assert set(content) == {"arrays", "config"}
    assert all(message.content is content for message in messages)
    pushed: list[Message] = []

    def push_messages(given: Iterable[Message]) -> Iterable[str]:
        pushed.extend(given)
        return []

    monkeypatch.setattr(federation.grid, "push_messages", push_messages)
    assert list(grid.push_messages(messages)) == []
    assert [message.content.get(protocol.ARRIVALS_KEY) for message in pushed] == [record, None]


def test_a_sample_that_arrives_twice_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="arrivals: sample 'a' was given twice"):
        ContinualUnlearning(FedAvg(), ledger=tmp_path / "ledger.db", arrivals={"0": {1: ["a"], 2: ["a"]}})
    assert not (tmp_path / "ledger.db").exists()
