"""Arrays that a client has not changed do not travel back."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import same_bytes
from flwr.app import ArrayRecord, Message
from wire import WireGrid, first_model, wired

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.protocol import left_out
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, UnlearningResult

BUFFERS = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def served(strategy: ContinualUnlearning, grid: WireGrid) -> UnlearningResult:
    strategy.start(grid, first_model(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))
    return strategy.start(grid, num_rounds=0)


def test_unlearning_leaves_batch_norm_as_it_is_and_does_not_send_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, grid, _ = wired(tmp_path / "left out")
    result = served(strategy, grid)
    [unlearned, *_] = [reply for order, reply in grid.crossed if order.metadata.message_type == protocol.UNLEARN]
    assert set(first_model()) - set(protocol.arrays_of(unlearned)) == BUFFERS

    monkeypatch.setattr(left_out, "LEAVES_OUT_EQUAL_ARRAYS", protocol.PROTOCOL_VERSION + 1)
    strategy, grid, _ = wired(tmp_path / "whole")
    whole = served(strategy, grid)
    assert same_bytes(result.arrays, whole.arrays)
    [few], [all_of_it] = result.requests, whole.requests
    assert few.after == all_of_it.after
    saved = sum(len(name) + len(first_model()[name].data) for name in BUFFERS)
    assert all_of_it.traffic.bytes_received - few.traffic.bytes_received == 3 * saved


def test_training_of_the_app_itself_must_send_the_whole_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid, _ = wired(tmp_path)

    def without_a_buffer(reply: Message) -> None:
        if reply.metadata.message_type == protocol.TRAIN and reply.metadata.src_node_id == 2:
            del reply.content["arrays"]["1.running_mean"]

    strategy.start(Spoiled(grid, without_a_buffer), first_model(), num_rounds=1)
    assert "client 1 is left out: its model has 6 arrays, and not the 7 that were sent" in caplog.text


def test_a_reply_that_leaves_out_all_of_it_has_changed_nothing(tmp_path: Path) -> None:
    strategy, grid, _ = wired(tmp_path)

    def nothing(reply: Message) -> None:
        if reply.metadata.message_type == protocol.UNLEARN:
            reply.content["arrays"] = ArrayRecord()

    [outcome] = served(strategy, Spoiled(grid, nothing)).requests
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None and "changed" in outcome.reason


class Spoiled(WireGrid):
    """The grid with a wire, whose replies are changed before they arrive."""

    def __init__(self, grid: WireGrid, change) -> None:  # type: ignore[no-untyped-def]
        self.__dict__.update(grid.__dict__)
        self._change = change

    def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            self._change(reply)
        return replies
