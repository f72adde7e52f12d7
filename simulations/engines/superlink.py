"""A local SuperLink for one run: it starts on a free port, is used through the ``flwr`` command, and always ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from fed_unlearn.simulations.engines.errors import EngineError

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_CONNECTION = "own"


class LocalSuperLink:
    """A SuperLink with Flower's simulation runtime, which runs until the ``with`` block ends.

    Its Flower home is a temporary folder, so that the user's connections and a SuperLink that already runs are not
    touched. At the end all processes that it started are ended, with those of Ray.

    Parameters
    ----------
    log_file : Path
        The file that the SuperLink's output is written to.
    """

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._home = Path()
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="fed-unlearn-flwr-"))
        try:
            port = _free_port()
            (self._home / "config.toml").write_text(
                f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
                f'[superlink.{_CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
            )
            self._environment = _environment(self._home)
            self._start(port)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def call(self, *arguments: str) -> Mapping[str, object]:
        """Run a ``flwr`` command that answers in JSON.

        Raises
        ------
        EngineError
            If it fails. The message has what it printed.
        """
        command = [_script("flwr"), *arguments, "--format", "json"]
        try:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=_ANSWER_SECONDS,
                start_new_session=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineError(f"flwr {arguments[0]}: no answer in {_ANSWER_SECONDS:.0f} s") from None
        try:
            answer = cast(dict[str, object], json.loads(done.stdout))
        except json.JSONDecodeError:
            answer = {"error-message": (done.stderr.strip() or done.stdout.strip()).replace("\n", " ")}
        if not answer.get("success"):
            raise EngineError(f"flwr {arguments[0]}: {answer.get('error-message', answer)}")
        return answer

    def start_run(self, app: Path, federation: Mapping[str, float | int], settings: Mapping[str, object]) -> str:
        """Start a run of a Flower app and return its id.

        Parameters
        ----------
        app : Path
            The folder of the app's ``pyproject.toml``.
        federation : mapping
            Simulation settings such as ``num-supernodes``.
        settings : mapping
            Values that override the app's ``[tool.flwr.app.config]``.
        """
        written = " ".join(f"{key}={value}" for key, value in federation.items())
        overrides = [part for key, value in settings.items() for part in ("-c", f"{key}={_toml(value)}")]
        answer = self.call("run", str(app), _CONNECTION, "--federation-config", written, *overrides)
        return str(answer["run-id"])

    def log_lines(self, run_id: str) -> Iterator[str]:
        """Yield the lines that a run prints until it ends."""
        process = subprocess.Popen(
            [_script("flwr"), "log", run_id, _CONNECTION, "--stream"], env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            yield from process.stdout or ()
        finally:
            process.kill()
            process.wait()

    def status(self, run_id: str) -> str:
        """The status of a run, such as ``running`` or ``finished:completed``."""
        runs = cast(Sequence[Mapping[str, object]], self.call("ls", _CONNECTION, "--run-id", run_id)["runs"])
        return str(runs[0]["status"])

    def final_status(self, run_id: str) -> str:
        """Wait until Flower has recorded the status of a run whose log has ended, and return it."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not (status := self.status(run_id)).startswith("finished"):
            if time.monotonic() > deadline:
                raise EngineError(f"run {run_id} is still {status} {_ANSWER_SECONDS:.0f} s after the end of its log")
            time.sleep(0.5)
        return status

    def stop_run(self, run_id: str) -> None:
        """Stop a run."""
        self.call("stop", run_id, _CONNECTION)

    def _start(self, port: int) -> None:
        address = ("--host", "127.0.0.1", "--port", str(port))
        options = ("--insecure", "--simulation", "--disable-runtime-dependency-installation")
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [_script("flower-superlink"), *options, *address], env=self._environment, cwd=self._home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not _is_healthy(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"flower-superlink did not start on port {port}; its output is in {self._log_file}")
            time.sleep(0.1)

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            _wait_until_gone(self._home, self._process, _STOP_SECONDS / 2)
            _signal_all(_processes_below(self._home, self._process), signal.SIGTERM)
            _wait_until_gone(self._home, self._process, _STOP_SECONDS)
            _signal_all(_processes_below(self._home, self._process), signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])


def _environment(home: Path) -> dict[str, str]:
    scripts = os.pathsep.join(dict.fromkeys((sysconfig.get_path("scripts"), str(Path(sys.executable).parent))))
    return {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore::FutureWarning:ray._private.worker",
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
    }


def _script(name: str) -> str:
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (folder / name).is_file():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"the command {name} was not found beside {sys.executable}; install flwr[simulation]")
    return found


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if "'" in value or "\n" in value:
            raise EngineError(f"{value!r} has a quote or a line break, which flwr run cannot take; use another path")
        return f"'{value}'"
    return str(value)


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _processes_below(home: Path, superlink: subprocess.Popen[bytes]) -> list[int]:
    """The ids of all processes that inherited this Flower home. Without ``/proc`` it is the SuperLink's alone."""
    folder = Path("/proc")
    if not folder.is_dir():
        return [superlink.pid] if superlink.poll() is None else []
    marker = f"FLWR_HOME={home}".encode()
    found = []
    for entry in folder.iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                inherited = marker in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if inherited:
                found.append(int(entry.name))
    return found


def _wait_until_gone(home: Path, superlink: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        superlink.poll()
        if not _processes_below(home, superlink):
            return
        time.sleep(0.1)


def _signal_all(process_ids: Sequence[int], number: int) -> None:
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
