"""What ``fed-unlearn status`` says of a federation."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path

import pytest
from fault_trials import CLASS, SAMPLES, trained
from staying import in_turns

from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import ledger_lock
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report.server_status import ServerStatus
from fed_unlearn.strategies.staying.live_status import LiveStatus, StatusWriter


def test_status_of_a_server_that_sleeps(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    seen: list[ServerStatus] = []

    def look(ledger: Ledger) -> None:
        time.sleep(1.2)  # the server says how it is at most once in a second
        seen.append(ServerStatus.of(ledger))
        ledger.receive(CLASS)

    in_turns(trial, lambda ledger: ledger.receive(SAMPLES), look)
    [status] = seen
    assert status.is_healthy
    assert status.body["server"]["doing"] == "sleeps"  # type: ignore[index]
    assert status.body["server"]["process"] == os.getpid()  # type: ignore[index]
    [request] = status.body["requests"]  # type: ignore[misc]
    assert (request["status"], request["waits"], request["reason"]) == ("waiting", True, "client 2 is not reachable")
    clients = {row["client"]: row["state"] for row in status.body["clients"]}  # type: ignore[union-attr]
    assert clients == {"0": "connected", "1": "connected", "2": "away", "3": "connected"}


def test_status_when_no_server_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    in_turns(trial, lambda ledger: ledger.receive(CLASS))
    path = str(trial.strategy.ledger.path)
    capsys.readouterr()
    assert run_command(["status", path, "--json"]) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["server"]["running"] is False
    assert body["owed"] == {"r1": ["2"]}
    assert [row["owes"] for row in body["clients"]] == [[], [], ["r1"], []]
    audit = body["requests"][0]["last_audit"]
    assert audit["after"] == "r1" and audit["forget_accuracy"] is not None and not audit["relapsed"]
    assert run_command(["status", path]) == 1
    told = capsys.readouterr().out
    assert "stopped: it was ordered in the ledger" in told
    assert "owed by" in told


def test_status_without_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", str(tmp_path / "none.db")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_lock_file_of_a_killed_server_is_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledger.db"
    Ledger(ledger).close()
    StatusWriter(ledger, LiveStatus.of_this_process(7, "sleeps")).write()
    ledger.with_name("ledger.db.lock").write_text(str(os.getppid()))
    assert run_command(["status", str(ledger)]) == 1
    assert f"none works on the ledger; the last one, process {os.getpid()}: sleeps" in capsys.readouterr().out


def test_what_an_earlier_process_of_the_same_id_said_is_not_shown(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        writer = StatusWriter(ledger.path, LiveStatus.of_this_process(7, "sleeps"))
        writer.write()
        time.sleep(0.02)
        with ledger_lock(ledger.path):
            status = ServerStatus.of(ledger)
            assert (status.process, status.live) == (os.getpid(), None)
            writer.write()
            assert ServerStatus.of(ledger).live == writer.status
