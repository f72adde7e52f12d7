"""``--live`` of the commands: the page of a real run, read while it lasts."""

from __future__ import annotations

import http.client
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fed_unlearn.simulations.cli import BAD_INPUT, INTERRUPTED, run_command

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


def started(*arguments: str, files: int | None = None) -> tuple[subprocess.Popen[str], str]:
    """A command with ``--live``, which may have so many files open, and the address that it prints."""
    command = [sys.executable, "-u", "-m", "fed_unlearn.simulations.cli", *arguments, "--live"]
    limited = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limited)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.fullmatch(r"live: (http://127\.0\.0\.1:\d+/)\n", line):
            return process, found.group(1)
    raise AssertionError(f"no address was printed; exit code {process.wait()}")


def events_of(address: str) -> list[tuple[str, dict[str, object]]]:
    """Every event up to the end of the stream."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    connection.request("GET", "/events")
    found, name = [], ""
    for raw in connection.getresponse():
        key, _, value = raw.decode().rstrip("\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            found.append((name, json.loads(value)))
    return found


@pytest.mark.slow
def test_a_run_is_seen_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process, address = started("run", TINY, "--out", str(out))
    events = events_of(address)
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert process.stdout.read().splitlines()[-1] == f"report: {out / 'report.html'}"
    progress = [str(data["text"]) for name, data in events if name == "progress"]
    assert "r1: committed" in progress
    pages = [str(data["main"]) for name, data in events if name == "report"]
    assert "requests[0].after.forget_accuracy" not in pages[0]
    assert "requests[0].after.forget_accuracy" in pages[-1]
    assert events[-1] == ("end", {"text": f"finished; the report is {out / 'report.html'}", "closes": True})
    with pytest.raises(OSError, match="refused"):
        events_of(address)


@pytest.mark.slow
def test_a_run_of_few_files_outlives_a_flood_of_connections(tmp_path: Path) -> None:
    """A thousand connections that send nothing, to a process that may have 256 files: more of them would end the run."""
    out = tmp_path / "run"
    process, address = started("run", TINY, "--out", str(out), files=256)
    place = (urlsplit(address).hostname or "", urlsplit(address).port or 0)
    with ExitStack() as stack:
        for _ in range(1000):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)  # else each would wait until the server has taken the one before
            connection.connect_ex(place)
        assert process.wait(120) == 0
    assert process.stdout is not None
    assert process.stdout.read().splitlines()[-1] == f"report: {out / 'report.html'}"


@pytest.mark.slow
def test_ctrl_c_ends_a_run_that_is_watched(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process, address = started("run", TINY, "--out", str(out), "--set", "timeline.0.train.rounds=500")
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("GET", "/events")
    stream = connection.getresponse()
    while b"round " not in stream.readline():
        pass
    deadline = time.monotonic() + 60
    while not (out / "results.json").exists() or b'"round": 5' not in (out / "results.json").read_bytes():
        assert time.monotonic() < deadline, "the rounds of an open training are recorded"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == INTERRUPTED
    assert process.stdout is not None
    assert "go on with: fed-unlearn run --resume" in process.stdout.read()


def test_an_app_without_a_ledger_is_told_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text("[tool.flwr.app]\n[tool.flwr.app.components]\n[tool.flwr.federations]\n")
    assert run_command(["serve", str(app), "--live"]) == BAD_INPUT
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("the page is made of its ledger; give --ledger FILE, or serve a scenario")
