"""A node's two processes: their flags, their restarts, what is said of them, and their end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.nodes import node as node_module
from fed_unlearn.simulations.deployment.nodes.node import NodeOrder, run_node
from fed_unlearn.simulations.deployment.nodes.supervised import Supervised


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def ended(process: Supervised, selector: selectors.BaseSelector) -> int:
    while (code := process.ended(selector)) is None:
        for _ in selector.select(0.05):
            process.read(selector)
    return code


def test_lines_are_passed_on_without_colour_and_level() -> None:
    said: list[str] = []
    code = r"print('\x1b[92mINFO \x1b[0m:      Starting'); print('INFO :'); print('\x1b[91mERROR \x1b[0m:     no'); print('x', end='')"
    process = Supervised("it", lambda: python(code), os.environ, said.append)
    with selectors.DefaultSelector() as selector:
        process.start(selector)
        assert ended(process, selector) == 0
    assert said[1:] == ["it: Starting", "it: ERROR: no", "it: x"]


def test_waits_double_up_to_a_minute() -> None:
    process = Supervised("it", lambda: python("raise SystemExit(3)"), os.environ, lambda line: None)
    waits = []
    with selectors.DefaultSelector() as selector:
        for _ in range(8):
            process.start(selector)
            assert ended(process, selector) == 3
            assert process.next_start is not None
            waits.append(process.wait_longer())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--isolation", "subprocess"], "--isolation 'subprocess': this command brings an executor of its own"),
        (["--gpu", "0,1"], "--gpu '0,1': expected one GPU"),
        (["--gpu", ""], "--gpu ''"),
        (["--port", "x"], "invalid int value: 'x'"),
        (["--app", "/nowhere"], "--app '/nowhere': expected a folder with a pyproject.toml"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["node", *arguments]) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1


def test_the_executor_sees_the_gpu_and_flower_gets_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert node_module._environment("7")["CUDA_VISIBLE_DEVICES"] == "7"
    assert node_module._environment(None)["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    flags = ["--superlink", "host:1", "--insecure", "--node-config", "partition-id=0", "--ssl-ca-certfile", "ca.crt"]
    read = node_module._runtime_flags([*flags, "--port", "4000"])
    assert (read.port, read.root_certificates, read.host) == (4000, "ca.crt", "127.0.0.1")
    assert list(read.others) == flags


FLOWER_EXIT = """ERROR :     Exit Code: {code}
{message}

For more information, visit: <https://flower.ai/docs>
"""


def script(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(body)
    return path


def stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch, supernode: str, executor: str) -> None:
    """Scripts in the place of the two processes. They are given the same arguments."""
    paths = {"supernode": script(folder, "supernode", supernode), "executor": script(folder, "executor", executor)}
    monkeypatch.setattr(
        node_module, "_python", lambda module, *arguments: [sys.executable, "-S", str(paths[module]), *arguments]
    )


WARM = "import time; print('executor is warm', flush=True); time.sleep(60)"


def test_flags_that_flower_refuses_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = FLOWER_EXIT.format(code=600, message="SuperLink address (x) cannot be parsed.")
    stand_ins(tmp_path, monkeypatch, f"print({refusal!r}); raise SystemExit(1)", WARM)
    with pytest.raises(FedUnlearnError, match=r"the SuperNode refuses its flags: SuperLink address \(x\) cannot"):
        run_node(NodeOrder())
    assert capsys.readouterr().err.endswith("node stopped\n")


def test_a_refused_supernode_is_started_again_and_the_reason_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 305 while the old session lives; then it stays, and SIGTERM ends all in order."""
    refusal = FLOWER_EXIT.format(code=305, message="Failed to initialize the connection to the SuperLink.")
    mark = tmp_path / "second"
    supernode = f"""
import os, pathlib, signal
mark = pathlib.Path({str(mark)!r})
if not mark.exists():
    mark.touch(); print({refusal!r}); raise SystemExit(1)
print("stays", flush=True); os.kill(os.getppid(), signal.SIGTERM); signal.pause()
"""
    stand_ins(tmp_path, monkeypatch, supernode, WARM)
    monkeypatch.setattr("fed_unlearn.simulations.deployment.nodes.supervised._FIRST_WAIT", 0.01)
    assert run_node(NodeOrder()) == 0
    told = capsys.readouterr().err
    assert "SuperNode ended with exit code 305: Failed to initialize the connection to the SuperLink.; it is" in told
    assert "SuperNode: stays" in told
    assert told.endswith("node stopped\n")


def test_the_supernode_starts_when_the_executor_can_answer_and_not_again_with_each_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first executor is warm and ends, the second one ends the command when it is warm."""
    mark = tmp_path / "second"
    executor = f"""
import os, pathlib, signal, time
mark = pathlib.Path({str(mark)!r})
print("imports", flush=True); time.sleep(0.2); print("executor is warm", flush=True); time.sleep(0.5)
if not mark.exists():
    mark.touch(); raise SystemExit(1)
os.kill(os.getppid(), signal.SIGTERM); signal.pause()
"""
    stand_ins(tmp_path, monkeypatch, "import signal; signal.pause()", executor)
    monkeypatch.setattr("fed_unlearn.simulations.deployment.nodes.supervised._FIRST_WAIT", 0.01)
    assert run_node(NodeOrder()) == 0
    told = [" ".join(line.split(",")[0].split()[:3]) for line in capsys.readouterr().err.splitlines()]
    assert told[:4] == ["executor started", "executor: imports", "executor: executor is", "SuperNode started"]
    assert told.count("executor started") == 2 and told.count("SuperNode started") == 1


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or ") Z" not in Path(f"/proc/{pid}/stat").read_text()


def wait_for(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def started(lines: list[str], name: str) -> int:
    """Process id in the line that says that a process has started."""
    return int([line for line in lines if line.startswith(f"{name} started")][-1].rsplit(" ", 1)[1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_everything_ends_with_the_command(number: signal.Signals, tmp_path: Path) -> None:
    """The true processes, with no SuperLink to connect to."""
    command = [sys.executable, "-m", "fed_unlearn.simulations.cli", "node", "--insecure", "--superlink", "127.0.0.1:9"]
    environment = {**os.environ, "FLWR_HOME": str(tmp_path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    while not any("executor is warm" in line for line in lines) or not any("Uvicorn" in line for line in lines):
        lines.append(process.stderr.readline().rstrip())
        assert lines[-1] or process.poll() is None
    children = [started(lines, "SuperNode"), started(lines, "executor")]
    assert all(map(is_alive, children))
    if number == signal.SIGTERM:  # of a killed executor there is another
        os.kill(children[1], signal.SIGKILL)
        while not lines[-1].startswith("executor started"):
            lines.append(process.stderr.readline().rstrip())
        assert any("executor ended with signal 9" in line for line in lines)
        children.append(started(lines, "executor"))
    process.send_signal(number)
    process.stderr.close() if number == signal.SIGKILL else process.stderr.read()
    assert process.wait(40) == {signal.SIGINT: 130, signal.SIGTERM: 0, signal.SIGKILL: -9}[number]
    wait_for(lambda: not any(map(is_alive, children)))
