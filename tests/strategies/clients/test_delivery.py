"""Clients that go away in the middle of an exchange, come back, or answer late, on a Grid that is polled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import CLASS, PLAN, SAMPLES, Trial
from federation import initial_arrays, same_bytes
from polled_grid import PolledGrid

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Event, Forget, Train, UnlearningResult
from fed_unlearn.strategies.clients import returning
from fed_unlearn.strategies.clients.messages import delivery
from fed_unlearn.strategies.serving import debts

AT_2 = 102
ELSEWHERE = 777


class Polled:
    """A trial on a Grid that is polled; time does not count, calls do."""

    def __init__(self, folder: Path, *, return_seconds: float = 600.0) -> None:
        plan = replace(PLAN, retry=replace(PLAN.retry, return_seconds=return_seconds))
        self.trial = Trial(folder, plan=plan)
        self.grid = PolledGrid(self.trial.federation.grid)
        self.strategy: ContinualUnlearning = self.trial.strategy
        self.strategy.start(self.grid, initial_arrays(), num_rounds=2, timeout=600.0)
        self.grid.sent.clear()

    def serve(self, request: ForgetRequest, timeout: float = 600.0) -> UnlearningResult:
        self.strategy.submit(request)
        return self.strategy.start(self.grid, num_rounds=0, timeout=timeout)

    def once_sent(self, message_type: str, then: Callable[[], None], node: int = AT_2) -> None:
        """Do something in the first poll after a node was sent a type of message, before it answers."""
        done: list[bool] = []

        def look() -> None:
            if not done and (node, message_type) in self.grid.sent:
                done.append(True)
                then()

        self.grid.before_call = look

    def dies_and_restarts(self, node: int = ELSEWHERE) -> None:
        """Client 2's node dies; the SuperLink notices; it comes back some calls later, perhaps as another node."""
        self.grid.kill(AT_2)
        self.grid.notice(AT_2)
        there = self.grid.ticks + 8

        def look() -> None:
            if self.grid.ticks >= there and node not in started:
                started.append(node)
                self.grid.start(node, 2)

        started: list[int] = []
        self.grid.before_call = look


@pytest.fixture(autouse=True)
def looks_at_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_LOOK_SECONDS", 0.0)


ROUNDS = {
    "class": (CLASS, (protocol.UNLEARN, protocol.REPAIR, protocol.AUDIT, protocol.CONFIRM)),
    "sample": (SAMPLES, (protocol.UNLEARN, protocol.CONFIRM)),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UnlearningResult]:
    """What comes of each request in the process, where nothing happens."""
    results = {}
    for scope, (asked, _) in ROUNDS.items():
        trial = Trial(tmp_path_factory.mktemp(scope))
        trial.train()
        results[scope] = trial.serve(asked)
    return results


@pytest.mark.parametrize(("scope", "message_type"), [(scope, kind) for scope in ROUNDS for kind in ROUNDS[scope][1]])
@pytest.mark.parametrize("node", [ELSEWHERE, AT_2])
def test_a_client_that_restarts_in_a_round_takes_part_in_it(
    tmp_path: Path, undisturbed: dict[str, UnlearningResult], scope: str, message_type: str, node: int
) -> None:
    polled = Polled(tmp_path)
    polled.once_sent(message_type, lambda: polled.dies_and_restarts(node))
    result = polled.serve(ROUNDS[scope][0])
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED and outcome.attempts == 1
    assert same_bytes(result.arrays, undisturbed[scope].arrays)
    back = max(place for place, sent in enumerate(polled.grid.sent) if sent == (node, protocol.IDENTIFY))
    assert (node, message_type) in polled.grid.sent[back:]
    assert polled.strategy.ledger.entry("r1").owed == ()


def test_a_restart_that_the_runtime_does_not_notice_is_found_by_its_new_start(tmp_path: Path) -> None:
    polled = Polled(tmp_path)

    def restart() -> None:
        polled.grid.kill(AT_2)
        for letter in polled.grid.letters.values():  # the old process had them, and takes them with it
            letter.fetched = letter.fetched or letter.message.metadata.dst_node_id == AT_2
        polled.grid.start(AT_2, 2)

    polled.once_sent(protocol.UNLEARN, restart)
    [outcome] = polled.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED and outcome.attempts == 1
    assert polled.grid.sent.count((AT_2, protocol.UNLEARN)) == 2
    assert polled.strategy.ledger.entry("r1").owed == ()


def test_a_node_that_was_only_cut_off_answers_what_it_was_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is new, and its process is at work: it says nothing else until it has answered."""
    monkeypatch.setattr(returning, "_ANSWER_SECONDS", 0.05)
    polled = Polled(tmp_path)
    polled.grid.deaf.add((AT_2, protocol.UNLEARN))

    def cut_off() -> None:
        polled.grid.nodes[AT_2].activated += 1
        until = polled.grid.ticks + 12
        polled.grid.before_call = lambda: answer() if polled.grid.ticks == until else None

    def answer() -> None:
        polled.grid.deaf.discard((AT_2, protocol.UNLEARN))
        for letter in polled.grid.letters.values():
            letter.fetched = letter.message.metadata.message_type != protocol.UNLEARN

    polled.once_sent(protocol.UNLEARN, lambda: (polled.grid.deaf.add((AT_2, protocol.IDENTIFY)), cut_off()))
    [outcome] = polled.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED
    assert polled.grid.sent.count((AT_2, protocol.UNLEARN)) == 1
    assert polled.strategy.ledger.owed() == {}


def test_training_takes_the_model_of_a_client_that_came_back(tmp_path: Path) -> None:
    expected = Trial(tmp_path / "undisturbed")
    expected.train(2)
    polled = Polled(tmp_path / "polled")
    polled.once_sent(protocol.TRAIN, polled.dies_and_restarts)
    result = polled.strategy.start(polled.grid, num_rounds=1, timeout=600.0)
    assert same_bytes(result.arrays, expected.train(1).arrays)


def test_who_does_not_come_back_is_waited_for_so_long_and_owes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    polled = Polled(tmp_path, return_seconds=0.2)

    def die() -> None:
        polled.grid.kill(AT_2)
        polled.grid.notice(AT_2)

    polled.once_sent(protocol.UNLEARN, die)
    [outcome] = polled.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED
    assert polled.strategy.ledger.entry("r1").owed == ("2",)
    assert "client 2 did not get or answer train.unlearn: Destination node unavailable" in caplog.text


def test_a_stranger_that_comes_meanwhile_is_in_no_round_of_the_request(tmp_path: Path) -> None:
    polled = Polled(tmp_path)
    polled.grid.nodes[103].online = False
    polled.strategy.start(polled.grid, num_rounds=0, timeout=600.0)
    polled.grid.sent.clear()

    def come() -> None:
        polled.grid.start(888, 3)
        polled.dies_and_restarts()

    polled.once_sent(protocol.UNLEARN, come)
    [outcome] = polled.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED
    assert {kind for node, kind in polled.grid.sent if node == 888} <= {
        protocol.IDENTIFY,
        protocol.CONFIRM,
        "evaluate.audit",
    }
    assert (ELSEWHERE, protocol.REPAIR) in polled.grid.sent and (888, protocol.REPAIR) not in polled.grid.sent


def test_partial_replies_at_the_limit_and_late_ones_are_never_mixed_in(tmp_path: Path) -> None:
    polled = Polled(tmp_path)
    polled.grid.deaf.add((AT_2, protocol.UNLEARN))
    [outcome] = polled.serve(CLASS, timeout=0.3).requests
    late = [letter for letter in polled.grid.letters.values() if letter.message.metadata.dst_node_id == AT_2]
    assert outcome.status is Status.COMMITTED and late
    polled.grid.deaf.clear()
    for letter in late:
        letter.fetched = False
    answered = set(polled.grid.letters)
    polled.serve(ForgetRequest.for_class(8, id="eight"))
    assert answered == set(polled.grid.letters)  # nobody has asked for the late answers


# ---------------------------------------------------------------------- what is owed when a run ends


def test_who_comes_back_before_the_run_ends_settles_what_it_owes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "_POLL_SECONDS", 0.01)
    polled = Polled(tmp_path, return_seconds=0.3)
    polled.once_sent(protocol.UNLEARN, lambda: (polled.grid.kill(AT_2), polled.grid.notice(AT_2)))
    ledger = polled.strategy.ledger
    told: list[str] = []

    def come_at_last(event: Event) -> None:
        told.append(event.kind)
        if event.kind == "request-finished":
            assert ledger.owed() == {"2": ("r1",)}
            polled.grid.start(ELSEWHERE, 2)

    polled.strategy.observer = come_at_last
    result = polled.serve(CLASS)
    assert ledger.owed() == {}
    assert (ELSEWHERE, protocol.CONFIRM) in polled.grid.sent
    assert [row.after for row in result.relapse] == ["r1", "tombstones:2"]


def test_what_is_owed_at_the_end_of_a_timeline_is_waited_for_once_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(debts, "_POLL_SECONDS", 0.01)
    polled = Polled(tmp_path, return_seconds=0.3)
    polled.once_sent(protocol.UNLEARN, lambda: (polled.grid.kill(AT_2), polled.grid.notice(AT_2)))
    calls: list[bool] = []
    settle = debts.Debts.settle

    def noted(self: debts.Debts, *, waits: bool) -> None:
        calls.append(waits)
        settle(self, waits=waits)

    monkeypatch.setattr(debts.Debts, "settle", noted)
    timeline = [Train(rounds=2), Forget((replace(CLASS, id="r1"),)), Train(rounds=1)]  # the first was trained before
    polled.strategy.run(polled.grid, timeline, timeout=600.0)
    assert calls == [False, False, True]
    assert polled.strategy.ledger.owed() == {"2": ("r1",)}
    assert "client 2 still owes its tombstones of requests r1" in caplog.text
