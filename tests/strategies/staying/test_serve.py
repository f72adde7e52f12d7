"""A server that stays: what wakes it, what it does then, whom it asks, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import CLASS, SAMPLES, Trial, trained
from federation import initial_arrays
from staying import FAST, in_turns

from fed_unlearn import protocol
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.locks import LockedError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.strategies import Event, Forget, ServeSettings, Train, UnlearningResult
from fed_unlearn.strategies.staying.live_status import read_live_status
from fed_unlearn.strategies.staying.stopping import order_stop


def asked(trial: Trial, message_type: str) -> int:
    return sum(kind == message_type for _, kind in trial.grid.sent)


def test_a_request_that_comes_while_it_sleeps_is_served(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    in_turns(trial, lambda ledger: ledger.receive(CLASS), lambda ledger: ledger.receive(SAMPLES))
    assert [entry.status for entry in trial.strategy.ledger.entries()] == [Status.COMMITTED] * 2


def test_clients_are_asked_once_who_they_are(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.sent.clear()
    in_turns(trial, lambda ledger: ledger.receive(CLASS), lambda ledger: ledger.receive(SAMPLES))
    assert asked(trial, protocol.IDENTIFY) == 4


def test_the_timeline_is_run_once_whoever_serves(tmp_path: Path) -> None:
    trial, timeline = Trial(tmp_path), (Train(rounds=2), Forget((replace(CLASS, id="c"),)))
    in_turns(trial, timeline=timeline)
    model = trial.strategy.ledger.served_model()
    assert [experience.rounds for experience in trial.strategy.state.experiences()] == [2]
    trial.restart()
    trial.grid.sent.clear()
    in_turns(trial, timeline=timeline)
    assert trial.strategy.ledger.served_model() == model
    assert asked(trial, protocol.TRAIN) == asked(trial, protocol.UNLEARN) == 0


def test_ids_of_the_timeline_are_kept_for_it(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    later = Train(rounds=1, not_before=time.time() + 3.0)
    given: list[str] = []
    in_turns(
        trial,
        lambda ledger: given.append(ledger.receive(ForgetRequest.for_class(5))),
        lambda ledger: None,
        timeline=(Train(rounds=1), later, Forget((replace(CLASS, id="r1"),))),
    )
    assert given == ["r2"]
    assert {entry.id: entry.request.target() for entry in trial.strategy.ledger.committed()} == {
        "r1": {"classes": [3]},
        "r2": {"classes": [5]},
    }


def test_training_waits_for_its_time_and_requests_are_served_meanwhile(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    due = time.time() + 3.0
    timeline = (Train(rounds=1), Train(rounds=1, not_before=due))
    served_at: list[float] = []

    def receive(ledger: Ledger) -> None:
        ledger.receive(CLASS)

    def wait(ledger: Ledger) -> None:
        served_at.append(time.time())

    in_turns(trial, receive, wait, timeline=timeline)
    assert served_at[0] < due
    assert len(trial.strategy.state.experiences()) == 2
    assert trial.status() is Status.COMMITTED


def test_a_node_that_comes_back_wakes_it(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    statuses: list[Status] = []

    def waits(ledger: Ledger) -> None:
        statuses.append(ledger.entry("r1").status)
        trial.grid.heal()

    in_turns(trial, lambda ledger: ledger.receive(SAMPLES), waits)
    assert statuses == [Status.WAITING]
    assert trial.status() is Status.COMMITTED


def test_an_owner_is_asked_from_time_to_time(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    folder = str(trial.folder / "clients/2")
    queued: list[int] = []

    def queue(ledger: Ledger) -> None:
        queued.append(run_command(["forget", "--client-dir", folder, "--class", "3"]))

    settings = replace(FAST, owner_seconds=0.5)
    in_turns(trial, queue, lambda ledger: time.sleep(0.5), settings=settings)
    assert queued == [0]
    [entry] = trial.strategy.ledger.entries()
    assert (entry.status, entry.request.scope.kind) == (Status.COMMITTED, "sample")


def test_total_rounds_are_trained_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.strategy.start(trial.grid, initial_arrays(), total_rounds=2, timeout=0.2)
    trial.restart()
    trial.strategy.submit(CLASS)
    trial.grid.sent.clear()
    trial.strategy.start(trial.grid, initial_arrays(), total_rounds=2, timeout=0.2)
    assert asked(trial, protocol.TRAIN) == 0
    assert trial.status() is Status.COMMITTED
    trial.strategy.start(trial.grid, initial_arrays(), total_rounds=3, timeout=0.2)
    assert [experience.rounds for experience in trial.strategy.state.experiences()] == [2, 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_request_loses_nothing(tmp_path: Path, number: int) -> None:
    whole, trial = trained(tmp_path / "whole"), trained(tmp_path / "stopped")
    whole.serve(CLASS)
    trial.strategy.submit(CLASS)
    trial.grid.watch(protocol.UNLEARN, lambda client, reply: client or os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    trial.strategy.serve(trial.grid, timeout=0.2, settings=FAST)
    assert signal.getsignal(number) is before
    assert trial.status() is Status.UNLEARNING
    live = read_live_status(trial.strategy.ledger.path)
    assert live is not None and live.doing == f"stopped: the process got {signal.Signals(number).name}"

    trial.restart()
    trial.grid.watch(protocol.UNLEARN, lambda client, reply: None)
    in_turns(trial)
    assert trial.status() is Status.COMMITTED
    assert trial.strategy.ledger.served_model() == whole.strategy.ledger.served_model()


def test_an_order_to_stop_that_is_older_than_the_server_does_not_stop_it(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    order_stop(trial.strategy.ledger)
    in_turns(trial, lambda ledger: ledger.receive(CLASS))
    assert trial.status() is Status.COMMITTED


def test_only_one_server_stays_at_a_ledger(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    problems: list[LockedError] = []

    def another(ledger: Ledger) -> None:
        strategy = trial.federation.strategy(trial.new_inner(), plan=trial.plan)
        with pytest.raises(LockedError) as caught:
            strategy.serve(trial.grid, settings=FAST)
        problems.append(caught.value)
        strategy.ledger.close()
        ledger.receive(CLASS)

    in_turns(trial, another)
    assert len(problems) == 1


def test_clients_that_fail_do_not_end_it(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    for client in range(4):
        trial.do("raises", client, protocol.AUDIT, times=3)
    trial.strategy.submit(CLASS)
    problems: list[str | None] = []

    def note(event: Event) -> None:
        status = read_live_status(trial.strategy.ledger.path)
        problems.append(status.problem if status is not None else None)

    trial.strategy.observer = note
    in_turns(trial, settings=replace(FAST, retry_seconds=1.5))
    assert trial.status() is Status.COMMITTED
    assert any(problem is not None and "no client could be audited" in problem for problem in problems)
    live = read_live_status(trial.strategy.ledger.path)
    assert live is not None and live.problem is None


def test_it_says_what_it_does_and_who_is_there(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    seen = []

    def look(ledger: Ledger) -> None:
        time.sleep(1.2)  # the file is written at most once in a second
        status = read_live_status(ledger.path)
        assert status is not None
        seen.append(status)
        ledger.receive(CLASS)

    in_turns(trial, look)
    [status] = seen
    assert (status.doing, status.connected, status.process) == ("sleeps", ("0", "1", "2", "3"), os.getpid())
    assert status.messages == 4 and status.problem is None and status.wakes_at is not None


def test_prometheus_reads_its_figures(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trial = trained(tmp_path)
    pages = []

    def look(_: UnlearningResult) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            pages.append(answer.read().decode())
        os.kill(os.getpid(), signal.SIGTERM)

    trial.strategy.submit(CLASS)
    trial.strategy.serve(
        trial.grid, timeout=0.2, on_turn=look, settings=ServeSettings(ledger_seconds=0.01, metrics_port=port)
    )
    [page] = pages
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert figures['fed_unlearn_requests{status="committed"}'] == "1.0"
    assert figures["fed_unlearn_clients_connected"] == "4.0"


def test_settings_out_of_bounds_are_named() -> None:
    with pytest.raises(InvalidParameterError, match="serve: node_seconds = 0; expected a number above 0"):
        ServeSettings(node_seconds=0)
    with pytest.raises(InvalidParameterError, match="metrics_port = 70000"):
        ServeSettings(metrics_port=70000)


def test_a_status_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.server.json").write_text(json.dumps({"doing": 1}))
    with pytest.raises(Exception, match=r"ledger\.db\.server\.json: cannot be read"):
        read_live_status(tmp_path / "ledger.db")
