"""`fed-unlearn launch` on this machine: what it computes, and what it leaves behind when it ends in whatever way."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.federation import LocalFederation
from fed_unlearn.simulations.deployment.layout import Layout
from fed_unlearn.simulations.engines.errors import EngineError

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc"),
]


def started(out: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "fed_unlearn.simulations.cli", "launch", *options, "--out", str(out)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def processes_of(out: Path) -> list[str]:
    """Commands of all processes that have a run folder in their environment or arguments, but this one's children's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                arguments, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(out).encode() in arguments or f"FLWR_HOME={out}".encode() in environment:
                found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
    return found


def gone_within(out: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while processes_of(out):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def served(out: Path) -> tuple[str | None, list[tuple[str, str]], object]:
    with closing(Ledger(out / "ledger.db")) as ledger:
        model = ledger.served_model()
    results = json.loads((out / "results.json").read_text())
    figures = [(request["before"], request["unlearned"], request["after"]) for request in results["requests"]]
    return model, [(request["id"], request["status"]) for request in results["requests"]], figures


def wait_for_line(process: "subprocess.Popen[str]", part: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if part in line:
            return
    raise AssertionError("".join(seen))


def test_it_ends_with_the_model_of_a_run_in_process(tmp_path: Path) -> None:
    out = tmp_path / "a launched run"
    process = started(out, str(TINY), "--tls", "--auth", "--seed", "4")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert run_command(["run", str(TINY), "--seed", "4", "--out", str(tmp_path / "alone")]) == 0
    assert served(out) == served(tmp_path / "alone")
    assert json.loads((out / "results.json").read_text())["engine"] == "superlink"
    assert processes_of(out) == []
    assert not (out / "superlink").exists() and (out / "figures" / "timeline.png").exists()
    assert {path.name for path in (out / "logs").iterdir()} == {"superlink.txt", "node-0.txt", "node-1.txt"}
    with closing(Ledger(out / "ledger.db")) as ledger:
        keys = [ledger.client_key(client) for client in ("0", "1")]
    assert None not in keys and keys[0] != keys[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = started(out, str(TINY), "--seed", "4")
    wait_for_line(process, "round 1 of 4")
    process.send_signal(number)
    said = process.communicate()[0]
    if number == signal.SIGKILL:
        assert gone_within(out, 90.0), processes_of(out)
    else:
        assert process.returncode == 130
        assert f"go on with: fed-unlearn launch --resume {out}" in said
        assert processes_of(out) == []
    assert run_command(["launch", "--resume", str(out)]) == 0
    assert run_command(["run", str(TINY), "--seed", "4", "--out", str(tmp_path / "alone")]) == 0
    assert served(out) == served(tmp_path / "alone")


def test_a_superlink_that_does_not_start_is_named_with_its_last_line_and_log(tmp_path: Path) -> None:
    class Broken(LocalFederation):
        def _start(self, name: str, command: str, *arguments: str) -> "subprocess.Popen[bytes]":
            return super()._start(name, command, *arguments, "--no-such-flag")

    with pytest.raises(EngineError) as caught, Broken(tmp_path, Layout(nodes=1)):
        raise AssertionError("it started")
    assert "the SuperLink did not start: flower-superlink: error: unrecognized arguments" in str(caught.value)
    assert str(caught.value).endswith(f"its log is {tmp_path / 'logs' / 'superlink.txt'}")
    assert processes_of(tmp_path) == []


def test_a_node_that_ends_ends_the_run_and_is_named(tmp_path: Path) -> None:
    with LocalFederation(tmp_path, Layout(nodes=1)) as federation:
        federation.check()
        (node,) = federation._nodes
        node.kill()
        node.wait()
        with pytest.raises(EngineError, match=r"node 0 has ended: .*its log is .*node-0\.txt"):
            federation.check()
    assert gone_within(tmp_path, 60.0), processes_of(tmp_path)
