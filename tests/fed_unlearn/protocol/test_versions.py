"""Versions of the wire format: which of them understand each other, and what older ones sent is still read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from recorded_messages import FOLDER, recorded
from wire import WireGrid, first_model, third_of_digits, wired

from fed_unlearn import protocol
from fed_unlearn.arrays import same_bits, unpack
from fed_unlearn.client.actions import ACTIONS
from fed_unlearn.protocol import Versions
from fed_unlearn.protocol.instructions import Instruction
from fed_unlearn.strategies.clients.messages.runtime import NobodyThereError
from fed_unlearn.strategies.clients.replies import read_reply

NUMBERS = range(protocol.OLDEST_PROTOCOL, protocol.PROTOCOL_VERSION + 1)
INSTRUCTIONS: dict[str, type[Instruction]] = {
    protocol.UNLEARN: protocol.UnlearnInstruction,
    protocol.REPAIR: protocol.RepairInstruction,
    protocol.AUDIT: protocol.AuditInstruction,
    protocol.CONFIRM: protocol.SettleInstruction,
    protocol.DISCARD: protocol.SettleInstruction,
}


def as_message(content: RecordDict, kind: str) -> Message:
    return Message(protocol.unbundled(content), 1, kind)


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        (Versions(2, 1), Versions(), True),
        (Versions(2, 2), Versions(), False),
        (Versions(2, 1), Versions(3, 2), True),
        (Versions(2, 1), Versions(9, 3), False),
        (Versions(9, 3), Versions(2, 1), False),
    ],
)
def test_two_sides_fit_where_each_reads_what_the_other_writes(mine: Versions, theirs: Versions, fits: bool) -> None:
    assert (mine.problem_with(theirs) is None) is fits


def test_the_problem_names_both_sides() -> None:
    problem = Versions(2, 1, "0.1.0").problem_with(Versions(9, 3, "4.0.0"))
    assert problem is not None
    assert "protocol 3 to 9 of fed_unlearn 4.0.0" in problem and "protocol 1 to 2 of fed_unlearn 0.1.0" in problem


# ---------------------------------------------------------------------- the first meeting


class OtherVersion(WireGrid):
    """Client 1 is of a version that is far ahead."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.metadata.src_node_id == 2 and reply.metadata.message_type == protocol.IDENTIFY:
                reply.content["versions"] = Versions(9, 7, "5.0.0").to_record()
                reply.content["fed-unlearn"] = ConfigRecord({"who": "1", "more": 1})  # a stamp that nobody can read yet
        return replies


def test_a_client_of_another_protocol_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, wire, _ = wired(tmp_path)
    grid = OtherVersion(wire._client_app, tmp_path / "other")
    strategy.start(grid, first_model(), num_rounds=1)
    asked = {message.metadata.dst_node_id for message, _ in grid.crossed if message.metadata.message_type == "train"}
    assert asked == {1, 3}
    assert "of node 2 is left out: it speaks protocol 7 to 9 of fed_unlearn 5.0.0" in caplog.text


def test_a_client_refuses_a_server_of_another_protocol_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, grid, _ = wired(tmp_path)

    def told(self: Versions) -> ConfigRecord:
        return ConfigRecord({"protocol": 9, "oldest-protocol": 7, "library": "5.0.0"})

    monkeypatch.setattr(Versions, "to_record", told)
    with pytest.raises(NobodyThereError, match=r"protocol 7 to 9 of fed_unlearn 5\.0\.0"):
        strategy.start(grid, first_model(), num_rounds=1)


# ---------------------------------------------------------------------- what was sent once is still read


def test_all_versions_are_recorded_and_have_every_type() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == [f"version-{number}.json" for number in NUMBERS]
    for number in NUMBERS:
        since = {
            protocol.STATISTICS,
            protocol.RELEARN,
            protocol.BLOCKS,
        }  # came without a new version: clients that do not know it answer with an error
        assert set(recorded(number)) == {*ACTIONS, protocol.TRAIN, protocol.EVALUATE} - since


@pytest.mark.parametrize("number", NUMBERS)
def test_todays_server_reads_recorded_replies(number: int) -> None:
    replies = {kind: as_message(reply, kind) for kind, (_, reply) in recorded(number).items()}
    orders = {kind: as_message(order, kind) for kind, (order, _) in recorded(number).items()}
    for kind, reply in replies.items():
        stamp = protocol.read_stamp(reply)
        assert stamp is not None and stamp.client_id in {"0", "1", "2"}, kind
        assert stamp.answers == protocol.digest_of(orders[kind]), kind
        assert protocol.refusal_of(reply) is None
    identified = replies[protocol.IDENTIFY]
    assert protocol.misfit_of(identified) is None
    assert Versions.of_client(identified).protocol == number
    held = third_of_digits(0).train.labels
    assert protocol.read_counts(identified, "class-samples") == held.bincount(minlength=10).tolist()
    assert protocol.read_forgotten(replies[protocol.UNLEARN]) == ({"r1": int((held == 3).sum())}, {})
    assert isinstance(protocol.read_earlier_tombstones(replies[protocol.CONFIRM]), str)
    counts = protocol.read_audit(replies[protocol.AUDIT])
    assert sum(counts.parts["test"].total) > 0
    for kind in (protocol.TRAIN, protocol.UNLEARN, protocol.REPAIR):
        sent = unpack(protocol.arrays_of(orders[kind]))
        arrays, problem = read_reply(replies[kind], sent, protocol.WEIGHT)
        assert problem is None and set(arrays) == set(sent) and not same_bits(arrays, sent), kind


@pytest.mark.parametrize("number", NUMBERS)
def test_todays_client_answers_recorded_messages(number: int, tmp_path: Path) -> None:
    """In the order of a request's life; what a server of that version cannot read is not sent to it."""
    _, grid, _ = wired(tmp_path)
    for kind in (protocol.IDENTIFY, protocol.TRAIN, protocol.EVALUATE, protocol.UNLEARN, protocol.REPAIR,
                 protocol.AUDIT, protocol.CONFIRM, protocol.DISCARD, protocol.REQUESTS):  # fmt: skip
        order, was = recorded(number)[kind]
        [reply] = grid.send_and_receive([Message(order, 1, kind)])
        assert protocol.refusal_of(reply) is None, kind
        assert set(was) <= set(reply.content), kind
        if kind in INSTRUCTIONS:
            INSTRUCTIONS[kind].from_message(as_message(order, kind))
        assert protocol.is_bundled(reply.content) is (protocol.is_bundled(was) and number >= protocol.READS_BUNDLES), (
            kind
        )
        if kind in protocol.LEAVE_OUT_ARRAYS:
            answered = protocol.unbundled(reply.content)
            left_out = set(protocol.unbundled(order)["arrays"]) - set(answered["arrays"])
            assert bool(left_out) is (number >= protocol.LEAVES_OUT_EQUAL_ARRAYS and kind == protocol.UNLEARN), kind
