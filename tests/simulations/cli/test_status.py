"""What ``fed-unlearn status`` says of a federation."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fault_trials import CLASS, SAMPLES, trained
from staying import in_turns

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report.server_status import ServerStatus


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
