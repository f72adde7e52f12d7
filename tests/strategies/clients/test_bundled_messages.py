"""Models travel as one array to clients that can read that, on Grids that are polled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from fault_trials import CLASS, PLAN, Trial
from federation import initial_arrays, same_bytes
from flwr.app import Array, ArrayRecord, Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from polled_grid import PolledGrid

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.protocol import Versions


class Watched(PolledGrid):
    """Keeps what crosses it, and changes answers before the server has them."""

    def watch(self, change: Callable[[Message], None] = lambda answer: None) -> None:
        self.orders: list[tuple[int, str, bool, int]] = []
        self.answers: list[tuple[int, str, bool]] = []
        self.change = change

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            told = message.metadata
            objects = len(get_all_nested_objects(message))
            self.orders.append((told.dst_node_id, told.message_type, protocol.is_bundled(message.content), objects))
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        answers = list(super().pull_messages(message_ids))
        for answer in answers:
            bundled = answer.has_content() and protocol.is_bundled(answer.content)
            self.answers.append((answer.metadata.src_node_id, answer.metadata.message_type, bundled))
            self.change(answer)
        return answers


def watched(folder: Path, change: Callable[[Message], None] = lambda answer: None) -> tuple[Trial, Watched]:
    trial = Trial(folder, plan=PLAN)
    grid = Watched(trial.federation.grid)
    grid.watch(change)
    return trial, grid


def test_messages_with_a_model_are_few_objects_and_the_model_is_the_same(tmp_path: Path) -> None:
    trial, grid = watched(tmp_path / "polled")
    trial.strategy.start(grid, initial_arrays(), num_rounds=1, timeout=600.0)
    plain = Trial(tmp_path / "plain", plan=PLAN)
    plain.train(1)
    [served, in_process] = [trial.strategy, plain.strategy]
    served.submit(CLASS)
    in_process.submit(CLASS)
    result, expected = (
        served.start(grid, num_rounds=0, timeout=600.0),
        in_process.start(plain.federation.grid, num_rounds=0),
    )
    assert [outcome.status for outcome in result.requests] == [Status.COMMITTED]
    assert same_bytes(result.arrays, expected.arrays)
    assert result.requests[0].traffic == expected.requests[0].traffic
    for _, kind, bundled, objects in grid.orders:
        if kind in (protocol.TRAIN, protocol.UNLEARN, protocol.REPAIR, protocol.AUDIT):
            assert bundled and objects <= 9, kind
    sent_back = {kind for _, kind, bundled in grid.answers if bundled}
    assert {protocol.TRAIN, protocol.UNLEARN} <= sent_back


def test_a_client_that_does_not_read_bundles_gets_and_sends_plain_arrays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def older(answer: Message) -> None:
        if answer.metadata.message_type == protocol.IDENTIFY and answer.metadata.src_node_id == 102:
            answer.content["versions"] = Versions(2, 1, "0.1.0").to_record()

    trial, grid = watched(tmp_path, older)
    trial.strategy.start(grid, initial_arrays(), num_rounds=1, timeout=600.0)
    trained = {node: bundled for node, kind, bundled, _ in grid.orders if kind == protocol.TRAIN}
    answered = {node: bundled for node, kind, bundled in grid.answers if kind == protocol.TRAIN}
    assert trained == answered == {100: True, 101: True, 102: False, 103: True}
    assert "left out" not in caplog.text


def test_a_malformed_bundle_is_an_error_of_its_client_which_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(answer: Message) -> None:
        if answer.metadata.message_type == protocol.UNLEARN and answer.metadata.src_node_id == 102:
            broken = Array("uint8", (9,), "fed_unlearn.bundle", b"\xff" * 9)
            answer.content["arrays"] = ArrayRecord({"fed_unlearn.bundle": broken})

    trial, grid = watched(tmp_path, spoil)
    trial.strategy.start(grid, initial_arrays(), num_rounds=1, timeout=600.0)
    trial.strategy.submit(CLASS)
    [outcome] = trial.strategy.start(grid, num_rounds=0, timeout=600.0).requests
    asked = [node for node, kind, _, _ in grid.orders if kind == protocol.UNLEARN]
    assert asked.count(102) == (1 + PLAN.retry.count) * asked.count(101)
    assert "client 2: it sent a bundle of arrays whose index cannot be read" in caplog.text
    assert outcome.status is Status.FAILED
    assert outcome.reason == "client 2: it sent a bundle of arrays whose index cannot be read"
    assert trial.strategy.ledger.entry("r1").owed == ()
