"""What a server that stays waits for, and what it does not keep waiting meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from deployed import eventually
from fault_trials import CLASS, CLIENT, SAMPLES, Trial, trained
from federation import initial_arrays
from flwr.serverapp.strategy import FedAvg, Strategy
from polled_grid import PolledGrid
from staying import FAST, in_turns

from fed_unlearn import protocol
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.locks import ledger_lock
from fed_unlearn.simulations.report import server_status
from fed_unlearn.simulations.report.server_status import ServerStatus
from fed_unlearn.strategies import Train, UnlearningResult
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError
from fed_unlearn.strategies.serving import owner_requests
from fed_unlearn.strategies.staying.live_status import LiveStatus, StatusWriter, read_live_status
from fed_unlearn.strategies.staying.stopping import order_stop


def asked(trial: Trial, message_type: str) -> int:
    return sum(kind == message_type for _, kind in trial.grid.sent)


def stop_from_outside(trial: Trial) -> None:
    with closing(Ledger(trial.strategy.ledger.path, create=False)) as ledger:
        order_stop(ledger)


def four_at_least() -> Strategy:
    return FedAvg(fraction_evaluate=0.0, min_available_nodes=4)


def test_a_training_that_waits_for_nodes_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    """Client 3 is away when the second training is due: requests are served, and it is trained when it is back."""
    trial, due = Trial(tmp_path, new_inner=four_at_least), time.time() + 3.0
    seen: list[tuple[int, str | None]] = []

    def from_outside() -> None:
        eventually(lambda: asked(trial, protocol.TRAIN) == 4, 30, "the first training")
        trial.grid.gone.add(3)
        with closing(Ledger(trial.strategy.ledger.path, create=False)) as ledger:
            ledger.receive(SAMPLES)
            eventually(lambda: ledger.entry("r1").status is Status.COMMITTED, 30, "the request")
            time.sleep(max(0.0, due + 2.0 - time.time()))  # the status is written at most once in a second
            live = read_live_status(ledger.path)
            seen.append((asked(trial, protocol.TRAIN), live.problem if live is not None else None))
            trial.grid.heal()
            eventually(lambda: asked(trial, protocol.TRAIN) == 8, 30, "the second training")
            order_stop(ledger)

    outside = threading.Thread(target=from_outside)
    outside.start()
    timeline = (Train(rounds=1), Train(rounds=1, not_before=due))
    trial.strategy.serve(trial.grid, timeline, initial_arrays(), timeout=0.2, settings=FAST)
    outside.join()
    assert seen == [(4, "a training is due and waits for 1 more nodes")]
    assert asked(trial, protocol.TRAIN) == 8


def test_a_client_that_has_left_for_good_is_not_waited_for(tmp_path: Path) -> None:
    trial = Trial(tmp_path, new_inner=four_at_least)
    timeline = (Train(rounds=1), Train(rounds=1, not_before=time.time() + 8.0))

    def leave(ledger: Ledger) -> None:
        ledger.receive(CLIENT)

    def depart(ledger: Ledger) -> None:
        assert ledger.departed() == {"2"}
        trial.grid.gone.add(2)

    in_turns(trial, leave, depart, lambda ledger: None, timeline=timeline)
    assert len(trial.strategy.state.experiences()) == 2


def test_what_failed_is_tried_again_later_each_time_whatever_owners_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The polls of owners come every 0.05 s here, and what failed is not tried with each of them."""
    trial = trained(tmp_path)
    tries: list[float] = []

    def fails(*arguments: object, **settings: object) -> UnlearningResult:
        tries.append(time.monotonic())
        if len(tries) == 4:
            stop_from_outside(trial)
        raise ClientsFailedError("nobody does it")

    monkeypatch.setattr(trial.strategy, "start", fails)
    trial.strategy.serve(trial.grid, timeout=0.2, settings=replace(FAST, owner_seconds=0.05, retry_seconds=0.2))
    waits = [after - before for before, after in pairwise(tries)]
    assert waits[0] >= 0.2 and waits[1] >= 0.4 and waits[2] >= 0.8


def test_the_status_is_fresh_while_clients_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange of hours is no silence."""
    monkeypatch.setattr("fed_unlearn.strategies.staying.live_status.BEAT_SECONDS", 0.0)
    trial = trained(tmp_path)
    polled = PolledGrid(trial.federation.grid)
    polled.deaf.add((102, protocol.UNLEARN))
    written: list[float] = []

    def note() -> None:
        live = read_live_status(trial.strategy.ledger.path)
        if live is not None and (102, protocol.UNLEARN) in polled.sent:
            written.append(live.written)
        if len(written) == 6:
            stop_from_outside(trial)

    polled.before_call = note
    trial.strategy.submit(CLASS)
    trial.strategy.serve(polled, timeout=30.0, settings=FAST)
    assert len(set(written)) >= 4


def test_a_server_that_says_nothing_for_long_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trained(tmp_path)
    path = trial.strategy.ledger.path
    with ledger_lock(path):
        StatusWriter(path, LiveStatus.of_this_process(1, "audit of the candidate")).write()
        assert ServerStatus.of(trial.strategy.ledger).is_healthy
        time.sleep(0.1)
        monkeypatch.setattr(server_status, "SILENT_SECONDS", 0.1)
        found = ServerStatus.of(trial.strategy.ledger)
        assert found.live is not None and not found.is_healthy


def test_a_node_that_never_answers_keeps_requests_waiting_for_seconds_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executor is gone, and its SuperNode stays connected. An exchange may take ten minutes here."""
    monkeypatch.setattr(owner_requests, "_ANSWER_SECONDS", 0.3)
    trial = trained(tmp_path)
    polled = PolledGrid(trial.federation.grid)
    polled.deaf.add((102, protocol.REQUESTS))

    def from_outside() -> None:
        eventually(lambda: (102, protocol.REQUESTS) in polled.sent, 30, "owners are asked")
        with closing(Ledger(trial.strategy.ledger.path, create=False)) as ledger:
            ledger.receive(CLASS)
            eventually(lambda: ledger.entry("r1").status is Status.COMMITTED, 60, "the request")
            order_stop(ledger)

    outside = threading.Thread(target=from_outside)
    outside.start()
    trial.strategy.serve(polled, timeout=600.0, settings=replace(FAST, owner_seconds=1.0))
    outside.join()
    assert trial.status() is Status.COMMITTED
