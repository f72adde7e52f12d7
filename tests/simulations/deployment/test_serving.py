"""How a server is supervised: which run is followed, when it is run again, and that a stop stops it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from told_superlink import ToldSuperLink as SuperLink

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import ledger_lock
from fed_unlearn.simulations.deployment import serving
from fed_unlearn.simulations.deployment.serving import SupervisedServer, stop_server
from fed_unlearn.simulations.engines.app_run import AppRun, run_app
from fed_unlearn.simulations.engines.errors import EngineError, NoAnswerError
from fed_unlearn.simulations.engines.processes import ended_as_by_interrupt
from fed_unlearn.strategies.staying.live_status import LiveStatus, StatusWriter
from fed_unlearn.strategies.staying.stopping import StopOrder, is_stop_ordered


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, also where the tests were started by a shell that ignores it for its background jobs."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(serving, "_POLL_SECONDS", 0.02)


def server_of(superlink: SuperLink, tmp_path: Path, ledger: Path | None = None) -> tuple[SupervisedServer, list[str]]:
    said: list[str] = []
    return SupervisedServer(superlink, tmp_path, {}, ledger, None, said.append), said


def interrupted(server: SupervisedServer) -> AppRun:
    with ended_as_by_interrupt():
        return server.run()


def test_a_failed_run_is_run_again_and_one_that_ends_in_order_is_not(tmp_path: Path) -> None:
    superlink = SuperLink("finished:failed", "finished:completed")
    server, said = server_of(superlink, tmp_path)
    assert server.run() == AppRun("102", "finished:completed", ("line of 102",))
    assert [line for line in said if "started" in line] == ["run 101 started", "run 102 started"]


def test_a_run_that_the_superlink_lost_is_started_anew(tmp_path: Path) -> None:
    superlink = SuperLink(None, "finished:completed")
    superlink.on_log = lambda run_id: superlink.runs.pop("101", None)  # its database is lost
    server, said = server_of(superlink, tmp_path)
    assert server.run().run_id == "102"
    assert superlink.started == 2 and "the SuperLink does not know run 101" in said


def test_a_run_is_followed_on_after_the_superlink_was_away(tmp_path: Path) -> None:
    superlink, logs = SuperLink(None), []

    def log(run_id: str) -> None:
        logs.append(run_id)
        superlink.is_away = len(logs) == 1
        if superlink.is_away:
            threading.Timer(0.05, lambda: setattr(superlink, "is_away", False)).start()
        else:
            superlink.runs[run_id] = "finished:completed"

    superlink.on_log = log
    assert server_of(superlink, tmp_path)[0].run().run_id == "101"
    assert superlink.started == 1 and set(logs) == {"101"}


def test_a_superlink_that_goes_away_while_a_run_is_followed_is_waited_for_however_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_LONGEST_WAIT", 0.02)
    superlink, looks = SuperLink(None), []

    def look() -> None:
        looks.append(superlink.is_away)
        superlink.is_away = len(looks) < 30
        SuperLink.check_superlink(superlink)

    def log(run_id: str) -> None:
        superlink.is_away = not looks
        if looks:
            superlink.runs[run_id] = "finished:completed"

    superlink.on_log = log
    monkeypatch.setattr(superlink, "check_superlink", look)
    server, said = server_of(superlink, tmp_path)
    assert server.run().run_id == "101" and superlink.started == 1
    assert len(looks) == 30 and said.count("the SuperLink answers again") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_while_a_run_is_started_stops_that_run(tmp_path: Path, number: signal.Signals) -> None:
    superlink = SuperLink(None)
    superlink.on_run = lambda: os.kill(os.getpid(), number)
    assert interrupted(server_of(superlink, tmp_path)[0]) == AppRun("101", "finished:stopped", ())
    assert superlink.runs == {"101": "finished:stopped"}


def test_an_interrupt_while_it_waits_for_the_superlink_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    superlink = SuperLink(None)

    def sleep(_: float) -> None:
        superlink.is_away = False
        os.kill(os.getpid(), signal.SIGTERM)

    def log(run_id: str) -> None:
        superlink.is_away = True
        monkeypatch.setattr(serving.time, "sleep", sleep)

    superlink.on_log = log
    assert interrupted(server_of(superlink, tmp_path)[0]).status == "finished:stopped"
    assert superlink.runs == {"101": "finished:stopped"}


def test_a_run_that_cannot_be_stopped_is_named(tmp_path: Path) -> None:
    superlink = SuperLink(None)

    def log(run_id: str) -> None:
        superlink.is_away = True
        os.kill(os.getpid(), signal.SIGTERM)

    superlink.on_log = log
    with pytest.raises(EngineError, match="run 101: it may go on: flwr stop 101; flwr ls: connection refused"):
        interrupted(server_of(superlink, tmp_path)[0])


def test_an_interrupt_while_nothing_runs_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        interrupted(server_of(SuperLink("finished:failed"), tmp_path)[0])


def test_an_app_that_is_refused_is_told_once(tmp_path: Path) -> None:
    superlink = SuperLink()
    superlink.refusal = "the app has no serverapp"
    server, said = server_of(superlink, tmp_path)
    with pytest.raises(InvalidParameterError, match="was not taken: flwr run: the app has no serverapp"):
        server.run()
    assert said == []


def test_a_superlink_that_just_came_up_is_no_refusal(tmp_path: Path) -> None:
    superlink = SuperLink("finished:completed")
    superlink.refusal = "connection refused"
    listed = superlink._ls

    def ls(*arguments: str) -> Mapping[str, object]:
        superlink.refusal = ""
        return listed(*arguments)

    superlink._ls = ls  # type: ignore[method-assign]
    assert server_of(superlink, tmp_path)[0].run().run_id == "101"


def test_a_superlink_that_stays_away_is_given_up(tmp_path: Path) -> None:
    superlink = SuperLink()
    superlink.is_away = True
    server, said = server_of(superlink, tmp_path)
    with pytest.raises(EngineError, match="this was failure 6 in a row"):
        server.run()
    assert len(said) == 5


def serving_run(ledger: Path, run: int) -> None:
    StatusWriter(ledger, LiveStatus.of_this_process(run, "sleeps")).write()


def test_a_start_whose_answer_was_lost_is_found_by_its_server(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    superlink = SuperLink("finished:completed")

    def lost() -> None:
        serving_run(ledger, 101)
        raise NoAnswerError("flwr run: no answer in 60 s")

    superlink.on_run = lost
    with ledger_lock(ledger):
        server, said = server_of(superlink, tmp_path)
        server.ledger = ledger  # nobody works on it when the supervision begins
        server._running = lambda: None  # type: ignore[method-assign]
        assert server.run().run_id == "101"
    assert superlink.started == 1 and "run 101 serves already; it is followed" in said


def test_what_a_killed_server_left_is_no_server(tmp_path: Path) -> None:
    """The next process has its id, as in a container."""
    ledger = tmp_path / "ledger.db"
    Ledger(ledger).close()
    serving_run(ledger, 50)
    ledger.with_name("ledger.db.lock").write_text(str(os.getpid()))
    superlink = SuperLink("finished:completed")
    assert server_of(superlink, tmp_path, ledger)[0].run().run_id == "101"
    before = time.monotonic()
    with pytest.raises(FedUnlearnError, match=r"no server works on .*; there is nothing to stop"):
        stop_server(ledger, None, 120.0)
    assert time.monotonic() - before < 5


def test_a_status_from_before_the_lock_is_not_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_SAY_SECONDS", 0.05)
    ledger = tmp_path / "ledger.db"
    serving_run(ledger, 50)
    time.sleep(0.02)
    with ledger_lock(ledger):
        with pytest.raises(FedUnlearnError, match=rf"process {os.getpid()} works on .* is no server that stays"):
            server_of(SuperLink(), tmp_path, ledger)[0].run()
        serving_run(ledger, 51)
        superlink = SuperLink()
        superlink.runs["51"] = "finished:completed"
        assert server_of(superlink, tmp_path, ledger)[0].run().run_id == "51"


def test_an_interrupt_while_a_run_of_a_command_is_started_stops_that_run(tmp_path: Path) -> None:
    superlink = SuperLink(None)
    superlink.on_run = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_app(superlink, tmp_path, {})
    assert superlink.runs == {"101": "finished:stopped"}


class Staying(threading.Thread):
    """A server that stays, of which only the order to stop is real."""

    def __init__(self, ledger: Path, superlink: SuperLink) -> None:
        super().__init__()
        self.ledger, self.superlink, self.serves = ledger, superlink, threading.Event()

    def run(self) -> None:
        with closing(Ledger(self.ledger, create=False)) as opened, ledger_lock(self.ledger):
            stop = StopOrder(opened)
            with stop.from_signals():
                serving_run(self.ledger, 101)
                self.serves.set()
                while not stop.is_given():
                    time.sleep(0.01)
        self.superlink.runs["101"] = "finished:completed"


def test_an_interrupt_is_passed_on_as_an_order(tmp_path: Path) -> None:
    ledger, superlink = tmp_path / "ledger.db", SuperLink(None)
    Ledger(ledger).close()
    staying = Staying(ledger, superlink)

    def log(run_id: str) -> None:
        staying.start()
        assert staying.serves.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    superlink.on_log = log
    server, said = server_of(superlink, tmp_path, ledger)
    assert interrupted(server) == AppRun("101", "finished:completed", ())
    assert said[-1] == "stopping in order"
    staying.join()


def test_what_does_not_stay_is_not_ordered_and_is_stopped_by_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_SAY_SECONDS", 0.05)
    ledger, superlink = tmp_path / "ledger.db", SuperLink(None)
    with closing(Ledger(ledger)) as opened, ExitStack() as stack:

        def log(run_id: str) -> None:
            stack.enter_context(ledger_lock(ledger))
            os.kill(os.getpid(), signal.SIGTERM)

        superlink.on_log = log
        server, said = server_of(superlink, tmp_path, ledger)
        assert interrupted(server).status == "finished:stopped"
        assert "is no server that stays" in said[-1] and said[-1].endswith("it is stopped by Flower")
        with pytest.raises(FedUnlearnError, match="is no server that stays"):
            stop_server(ledger, None, 120.0)
        assert not is_stop_ordered(opened)
