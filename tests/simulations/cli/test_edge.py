"""Whatever a command raises ends as one line of at most 400 characters and an exit code."""

from __future__ import annotations

import inspect
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.cli import INTERRUPTED, commands, main, run_command
from fed_unlearn.simulations.cli.answers import one_line
from fed_unlearn.simulations.engines.errors import EngineError, RunFailedError

COMMAND = [sys.executable, "-m", "fed_unlearn.simulations.cli"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FED_UNLEARN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def raising(error: BaseException) -> Callable[..., int]:
    def app(**_: object) -> int:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FedUnlearnError("this is wrong"), 2, "fed-unlearn: this is wrong"),
        (FedUnlearnError("one", "two"), 2, "fed-unlearn: one; two"),
        (FedUnlearnError("a\n  b \x1b[31m"), 2, "fed-unlearn: a b \\x1b[31m"),
        (FedUnlearnError(), 2, "fed-unlearn: it failed, and no reason was given"),
        (EngineError("no Ray"), 1, "fed-unlearn: no Ray"),
        (RunFailedError("no client"), 1, "fed-unlearn: no client"),
        (click.UsageError("No such option: --x"), 2, "fed-unlearn: No such option: --x"),
        (FileNotFoundError(2, "No such file", "x\x1b"), 2, "fed-unlearn: 'x\\x1b': No such file"),
        (OSError(28, "No space left on device"), 2, "fed-unlearn: No space left on device"),
        (OSError(1, "no", "from", None, "to"), 2, "fed-unlearn: 'from' and 'to': no"),
        (sqlite3.OperationalError("disk I/O error"), 2, "(disk I/O error)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "invalid start byte"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (MemoryError(), 2, "not enough memory"),
        (ValueError("embedded null byte"), 2, "null byte"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_foreseeable_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(commands, "app", raising(error))
    assert run_command(["run"]) == code
    captured = capsys.readouterr()
    assert captured.err.endswith("\n") and captured.err[:-1].isprintable() and len(captured.err) <= 401
    assert message in captured.err and captured.out == ""
    assert not home.exists()


def test_numbers_of_too_many_digits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="digits") as caught:
        int("9" * 5000)
    monkeypatch.setattr(commands, "app", raising(caught.value))
    assert run_command(["run"]) == 2
    assert "too many digits" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("x" * 1000), TypeError("\x1b[31m"), AssertionError()])
def test_an_unforeseen_error_leaves_its_traceback_in_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, error: Exception
) -> None:
    monkeypatch.setattr(commands, "app", raising(error))
    assert run_command(["run", "--set", "a\nb"]) == 70
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err[:-1].isprintable()
    assert captured.err.startswith(f"fed-unlearn: internal error, please report it: {type(error).__name__}")
    (file,) = home.iterdir()
    assert captured.err.endswith(f"; its traceback is in {file}\n")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("fed-unlearn 'run' '--set' 'a\\nb'\nTraceback") and type(error).__name__ in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_traceback_that_cannot_be_written_is_no_second_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FED_UNLEARN_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(commands, "app", raising(ValueError("odd")))
    assert run_command(["run"]) == 70
    assert "ValueError: odd; its traceback cannot be written (File exists)" in capsys.readouterr().err


def test_values_are_cut_at_200_characters() -> None:
    path = "/".join("x" * 300)
    assert one_line([f"{path} is no folder"]) == f"fed-unlearn: {path[:197]}... is no folder"
    spaced = "a b " * 100
    assert one_line([f"{spaced!r} was given"], [spaced]) == f"fed-unlearn: '{spaced[:197]}...' was given"
    assert one_line([f"{spaced!r} was given"], [f"key={spaced}"]) == f"fed-unlearn: '{spaced[:197]}...' was given"


def test_problems_that_do_not_fit_are_counted() -> None:
    problems = [f"s.toml: place[{number}]: is not a table" for number in range(40)]
    line = one_line(problems)
    shown = line.count("is not a table")
    assert len(line) <= 400 and 8 <= shown < 40 and line.endswith(f"; and {40 - shown} more")
    long = one_line(["word " * 200, "another"])
    assert len(long) <= 400 and long.endswith("...; and 1 more")


def test_without_a_command_the_help_is_shown_and_one_line_says_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in ([], ["request"]):
        assert run_command(arguments) == 2
        captured = capsys.readouterr()
        assert "Usage: fed-unlearn" in captured.out
        assert captured.err == "fed-unlearn: a command is missing; expected one of those above\n"


WATCHED = """
import os, sys, time

kind, place, waits = sys.argv[1], sys.argv[2], sys.argv[3] == "waits"
sys.argv = ["fed-unlearn", *sys.argv[4:]]

def here():
    global kind
    kind = None
    os.write(1, b"here\\n")
    for _ in range(6000 * waits):
        time.sleep(0.01)

def at_import(event, arguments):
    if kind == "import" and event == "import" and arguments[0] == place:
        here()

def at_line(frame, event, _):
    if frame.f_code is not main.__code__:
        return None
    if kind == "line" and event == "line" and frame.f_lineno == int(place):
        here()
    return at_line

sys.addaudithook(at_import)
from fed_unlearn.simulations.cli import main

if kind == "line":
    sys.settrace(at_line)
main()
"""
"""Runs a command, and says on standard output when it is at an import or a line of ``main``, where it can wait."""

FIRST_IMPORT = "fed_unlearn.simulations.cli.answers"
"""What ``main`` imports first. Before it the interpreter starts and finds the package, in about 30 ms."""

LINES_OF_MAIN = {
    number: text.strip()
    for number, text in enumerate(inspect.getsource(main).splitlines(), start=main.__code__.co_firstlineno)
}


def interrupted_at(
    kind: str, place: object, command: list[str], folder: Path, later: float | None = None
) -> tuple[int, bytes]:
    """The exit code and standard error of a command that is interrupted at a place, or some seconds after it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, kind, str(place), "waits" if later is None else "goes on", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    try:
        while (line := process.stdout.readline()) != b"here\n":
            assert line, f"the command ended before it came to {place}"
        time.sleep(later or 0.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=50)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize(
    "module",
    [
        FIRST_IMPORT,
        "sqlite3",
        "fed_unlearn.simulations.cli.commands",
        "typer",
        "rich",
        "torch",
        "numpy",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch.nn", "flwr", "pandas", "pyarrow")),
        *(pytest.param(f"fed_unlearn.{name}", marks=pytest.mark.slow) for name in ("strategies", "models.weights")),
    ],
)
def test_ctrl_c_has_no_traceback_in_an_import(tmp_path: Path, module: str) -> None:
    """And is never lost: torch's native code swallows what is raised while it imports numpy."""
    assert interrupted_at("import", module, ["run", "--out", "out"], tmp_path) == (INTERRUPTED, b"")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("milliseconds", [0, 5, 20, 60, 100, 150, 250, 400])
def test_ctrl_c_has_no_traceback_at_any_moment_from_the_first_import_on(tmp_path: Path, milliseconds: int) -> None:
    ended = interrupted_at("import", FIRST_IMPORT, ["run", "--out", "out"], tmp_path, later=milliseconds / 1000)
    assert ended == (INTERRUPTED, b"")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_has_no_traceback_at_any_line_of_main(tmp_path: Path) -> None:
    """The lines that a command without an error comes to, from the one on after which an interrupt is caught."""
    lines = list(LINES_OF_MAIN.items())
    first = next(place for place, (_, text) in enumerate(lines) if text == "signal.signal(signal.SIGINT, _leave)") + 1
    reached = [
        (number, text)
        for number, text in lines[first:]
        if text and not text.startswith("except ") and text != "code = INTERRUPTED"
    ]
    assert len(reached) >= 10 and reached[-1][1] == "sys.exit(code)"
    for number, text in reached:
        assert interrupted_at("line", number, ["scenarios"], tmp_path) == (INTERRUPTED, b""), text


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    for command in (["--help"], ["request", "list", "l.db", "--json"]):
        if command[0] == "request":
            assert run_command(["request", "add", str(tmp_path / "l.db"), "--class", "3"]) == 0
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([*COMMAND, *command], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "--help"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "fed-unlearn: No space left on device\n"


def test_an_ascii_terminal_shows_escapes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    name = "klient-é"
    done = subprocess.run(
        [*COMMAND, "request", "add", str(tmp_path / "l.db"), "--client", name], capture_output=True, env=environment
    )
    assert done.returncode == 0
    done = subprocess.run(
        [*COMMAND, "request", "list", str(tmp_path / "l.db")], capture_output=True, env=environment, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and "klient-\\xe9" in done.stdout


@pytest.mark.parametrize("place", ["", ".", "/"])
@pytest.mark.parametrize("option", ["backup", "key"])
def test_a_place_without_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["request", "add", "ledger.db", "--class", "3"]) == 0
    command = ["ledger", "backup", ".", place] if option == "backup" else ["request", "list", ".", "--key", place]
    new = ["request", "add", "new.db", "--class", "3", "--key", place]
    for arguments in [command, *([new] if option == "key" else [])]:
        assert run_command(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new.db").exists()
