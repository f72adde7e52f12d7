"""Clients that do not answer ``train.unlearn``, or in time, or are gone; :mod:`test_faults` has the table."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fault_trials import (
    CLASS,
    NO_ANSWER,
    SAMPLES,
    SCOPES,
    no_threes,
    threes_at_client_2_alone,
    trained,
)
from federation import same_bytes
from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

MALFORMED = ("no counts", "refuses for all", "speaks of others")


def told(**texts: str):  # type: ignore[no-untyped-def]
    """Let a reply say other things of what it holds."""

    def changed(reply: Message) -> None:
        record = reply.content.config_records["forgotten"]
        reply.content["forgotten"] = ConfigRecord({**record, **texts})

    return changed


@pytest.mark.parametrize("kind", [*NO_ANSWER, "gone"])
def test_a_class_request_goes_on_without_a_silent_holder_which_owes_its_tombstones(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    for message_type in (protocol.UNLEARN, protocol.CONFIRM):
        trial.do(kind, 2, message_type)
    trial.strategy.submit(CLASS)
    result = trial.strategy.start(trial.grid, num_rounds=2, timeout=0.2)
    assert [outcome.status for outcome in result.requests] == [Status.COMMITTED]
    assert trial.owed() == ("2",)
    trial.trained_on()
    trial.train(2)
    assert not trial.trained_on() & trial.ids_of(2), "a client that owes tombstones is in no round"
    trial.grid.heal()
    trial.train(1)
    assert trial.owed() == ()
    assert trial.stored(2)["r1"]["tombstoned"]
    seen = trial.trained_on()
    assert seen & trial.ids_of(2)
    assert not seen & trial.ids_of_class(2, 3)


@pytest.mark.parametrize("kind", [*NO_ANSWER, "gone"])
def test_a_silent_holder_is_back_within_the_same_call(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    times = 2 if kind != "gone" else 0
    trial.do(kind, 2, protocol.UNLEARN, times)
    trial.do(kind, 2, protocol.CONFIRM, times)
    if kind == "gone":
        trial.grid.watch(protocol.TRAIN, lambda client, reply: trial.grid.heal())
    trial.strategy.submit(CLASS)
    trial.trained_on()
    result = trial.strategy.start(trial.grid, num_rounds=3, timeout=0.2)
    assert [outcome.status for outcome in result.requests] == [Status.COMMITTED]
    assert trial.owed() == ()
    assert not trial.trained_on() & trial.ids_of_class(2, 3)
    assert trial.grid.count(2, protocol.TRAIN) - 2 >= 1, "it trains again when it has its tombstones"


@pytest.mark.parametrize("kind", [*NO_ANSWER, "gone"])
def test_a_sample_request_waits_for_its_silent_holder_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 2, protocol.UNLEARN)
    other = ForgetRequest.for_samples(1, count=2)
    [outcome] = trial.serve(SAMPLES, other, CLASS).requests[:1]
    assert trial.status("r1") is Status.WAITING
    assert "client 2" in trial.reason("r1")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"request r1: waiting: {trial.reason('r1')}" in warnings
    assert (trial.status("r2"), trial.status("r3")) == (Status.COMMITTED, Status.COMMITTED)
    assert outcome.request.id == "r2"
    quarantined = set(trial.stored(2).get("r1", {}).get("sample_ids", ()))  # type: ignore[call-overload]
    assert len(quarantined) == (2 if kind in ("silent", "late") else 0)
    trial.grid.heal()
    trial.restart()
    [served] = trial.serve().requests
    assert (served.request.id, served.status) == ("r1", Status.COMMITTED)
    assert trial.stored(2)["r1"]["tombstoned"]


def test_a_waiting_sample_request_is_served_between_the_rounds_of_a_training(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.do("gone", 2, protocol.UNLEARN)
    trial.strategy.submit(SAMPLES)
    trial.grid.watch(protocol.TRAIN, lambda client, reply: trial.grid.heal())
    result = trial.strategy.start(trial.grid, num_rounds=3, timeout=0.2)
    assert [outcome.status for outcome in result.requests] == [Status.COMMITTED]


@pytest.mark.parametrize("scope", ["class", "sample"])
def test_the_answer_to_an_old_attempt_is_not_used(tmp_path: Path, scope: str) -> None:
    """The first attempt fails at another holder; what client 2 made of it comes first of all in the second one."""
    models = {}
    for kind in ("late", "silent"):
        trial = trained(tmp_path / kind)
        trial.do(kind, 2, protocol.UNLEARN, times=1)
        if scope == "class":
            trial.do("nan", 1, protocol.UNLEARN, times=1)
        models[kind] = trial.serve(SCOPES[scope]).arrays
        if scope == "sample":
            assert trial.status() is Status.WAITING
            models[kind] = trial.serve().arrays
        assert trial.status() is Status.COMMITTED
        assert trial.strategy.ledger.entry("r1").attempt == 2
    assert same_bytes(models["late"], models["silent"])


def test_a_class_request_without_any_holder_is_rejected(tmp_path: Path) -> None:
    trial = trained(tmp_path, data_of=no_threes)
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.REJECTED
    assert "no reachable client holds a sample" in (outcome.reason or "")


@pytest.mark.parametrize("kind", [*NO_ANSWER, "gone", "restart without it"])
def test_a_class_request_waits_where_its_only_holder_is_away(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path, data_of=threes_at_client_2_alone)
    trial.do("gone" if kind == "restart without it" else kind, 2, protocol.UNLEARN)
    if kind == "restart without it":
        trial.restart()
    trial.serve(CLASS)
    assert trial.status() is Status.WAITING
    assert "no reachable client holds a sample" in trial.reason()
    trial.grid.heal()
    [outcome] = trial.serve().requests
    assert outcome.status is Status.COMMITTED


@pytest.mark.parametrize("kind", ["deaf", "silent", "gone"])
@pytest.mark.parametrize("scope", ["class", "sample", "client"])
def test_requests_wait_where_nobody_is_there(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    for client in range(4):
        for message_type in (protocol.UNLEARN, protocol.REPAIR, protocol.AUDIT, protocol.TRAIN):
            trial.do(kind, client, message_type)
    result = trial.serve(SCOPES[scope])
    assert result.requests == []
    assert trial.status() is Status.WAITING
    assert same_bytes(result.arrays, before)
    trial.grid.heal()
    trial.restart()
    assert [outcome.status for outcome in trial.serve().requests] == [Status.COMMITTED]
