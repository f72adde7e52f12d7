"""The ``flwr`` command, with a Flower home and a connection of its own."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from fed_unlearn.simulations.engines.errors import EngineError, NoAnswerError

CONNECTION = "own"
"""The name of the connection in the Flower home of a run."""

_ANSWER_SECONDS, _CHECK_SECONDS = 60.0, 1.0


class FlowerCommands:
    """Calls ``flwr`` with a connection of a Flower home.

    Parameters
    ----------
    environment : mapping of str to str
        The environment of the command, from :func:`environment_of`.
    connection : str, optional
        The name of the connection. None for the default one of the home.
    """

    def __init__(self, environment: Mapping[str, str], connection: str | None = CONNECTION) -> None:
        self._environment = dict(environment)
        self._connection = () if connection is None else (connection,)

    def call(self, *arguments: str) -> Mapping[str, object]:
        """Run a ``flwr`` command that answers in JSON.

        Raises
        ------
        EngineError
            If it fails. The message has what it printed.
        """
        command = [script("flwr"), *arguments, "--format", "json"]
        try:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=_ANSWER_SECONDS,
                start_new_session=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"flwr {arguments[0]}: no answer in {_ANSWER_SECONDS:.0f} s") from None
        try:
            answer = cast(dict[str, object], json.loads(done.stdout))
        except json.JSONDecodeError:
            answer = {"error-message": done.stderr.strip() or done.stdout.strip()}
        if not answer.get("success"):
            raise EngineError(f"flwr {arguments[0]}: {answer.get('error-message', answer)}")
        return answer

    def start_run(
        self, app: Path, settings: Mapping[str, object], federation: Mapping[str, float | int] | None = None
    ) -> str:
        """Start a run of a Flower app and return its id.

        Parameters
        ----------
        app : Path
            The folder of the app's ``pyproject.toml``.
        settings : mapping
            Values that override the app's ``[tool.flwr.app.config]``.
        federation : mapping, optional
            Settings of the simulation runtime, such as ``num-supernodes``.
        """
        written = " ".join(f"{key}={value}" for key, value in (federation or {}).items())
        simulated = ("--federation-config", written) if federation else ()
        given = " ".join(f"{key}={toml_value(value)}" for key, value in settings.items())
        overrides = ("-c", given) if given else ()  # of two -c of one table flwr drops the first
        answer = self.call("run", str(app), *self._connection, *simulated, *overrides)
        return str(answer["run-id"])

    def log_lines(self, run_id: str, check: Callable[[], None] = lambda: None) -> Iterator[str]:
        """Yield the lines that a run prints until it ends.

        Parameters
        ----------
        run_id : str
        check : callable
            Called about every second. What it raises ends the iteration.
        """
        process = subprocess.Popen(
            [script("flwr"), "log", run_id, *self._connection, "--stream"], env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, errors="replace", start_new_session=True,
        )  # fmt: skip
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process.stdout or (), lines), daemon=True).start()
        checked = time.monotonic()
        try:
            while True:
                if time.monotonic() > checked + _CHECK_SECONDS:
                    check()
                    checked = time.monotonic()
                try:
                    line = lines.get(timeout=_CHECK_SECONDS)
                except queue.Empty:
                    continue
                if line is None:
                    return
                yield line
        finally:
            process.kill()
            process.wait()

    def status(self, run_id: str) -> str:
        """The status of a run, such as ``running`` or ``finished:completed``."""
        return str(self._runs("--run-id", run_id)[0]["status"])

    def knows_run(self, run_id: str) -> bool:
        """Whether the SuperLink has a run in its database.

        Raises
        ------
        EngineError
            If the SuperLink does not answer.
        """
        if any(str(run["run-id"]) == run_id for run in self._runs()):
            return True
        try:
            self.status(run_id)
        except EngineError:
            self._runs()  # it answers, and has only newer ones
            return False
        return True

    def check_superlink(self) -> None:
        """Raise EngineError if the SuperLink does not answer."""
        self._runs()

    def final_status(self, run_id: str) -> str:
        """Wait until Flower has recorded the status of a run whose log has ended, and return it."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not (status := self.status(run_id)).startswith("finished"):
            if time.monotonic() > deadline:
                raise EngineError(f"run {run_id} is still {status} {_ANSWER_SECONDS:.0f} s after the end of its log")
            time.sleep(0.5)
        return status

    def _runs(self, *which: str) -> Sequence[Mapping[str, object]]:
        return cast(Sequence[Mapping[str, object]], self.call("ls", *self._connection, *which)["runs"])

    def stop_run(self, run_id: str) -> None:
        """Stop a run."""
        self.call("stop", run_id, *self._connection)

    def register_node(self, public_key: Path) -> None:
        """Let the node with a key take part.

        Parameters
        ----------
        public_key : Path
            The file of its public key, in OpenSSH's form.
        """
        self.call("supernode", "register", str(public_key), *self._connection)


def _read(stream: Iterable[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def connection_file(address: str, root_certificates: str | None = None) -> str:
    """The content of ``config.toml`` of a Flower home whose only connection is to one SuperLink.

    Parameters
    ----------
    address : str
        ``host:port`` of the SuperLink.
    root_certificates : str, optional
        The file with the certificate of its authority. Without it the connection is not encrypted.
    """
    secured = "insecure = true" if root_certificates is None else f"root-certificates = {json.dumps(root_certificates)}"
    return f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{address}"\n{secured}\n'


def environment_of(home: Path | None) -> dict[str, str]:
    """The environment of Flower's commands and processes that use a Flower home; the user's own where it is None."""
    scripts = os.pathsep.join(dict.fromkeys((sysconfig.get_path("scripts"), str(Path(sys.executable).parent))))
    return {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore::FutureWarning:ray._private.worker",
        **os.environ,
        **({} if home is None else {"FLWR_HOME": str(home)}),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
    }


def script(name: str) -> str:
    """The path of a command that was installed with Flower.

    Raises
    ------
    EngineError
        If it is not there.
    """
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (folder / name).is_file():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"the command {name} was not found beside {sys.executable}; install flwr[simulation]")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])


def toml_value(value: object) -> str:
    """A value as TOML, in quotes that ``flwr run -c`` takes.

    It splits its argument at blanks outside of quotes, and takes a quote for the end of a text even where TOML has it
    escaped; so a double quote is written by its number.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if "'" not in value and value.isprintable():
            return f"'{value}'"
        return '"' + "".join(map(_toml_character, value)) + '"'
    return str(value)


def _toml_character(character: str) -> str:
    """A character of a text in double quotes."""
    plain = character not in '"\\' and (ord(character) >= 0x20 and ord(character) != 0x7F)
    return character if plain else f"\\u{ord(character):04x}"
