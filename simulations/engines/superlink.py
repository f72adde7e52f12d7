"""A local SuperLink for one run: it starts on a free port, is used through the ``flwr`` command, and always ends."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_unlearn.simulations.engines.commands import (
    FlowerCommands,
    connection_file,
    environment_of,
    free_port,
    script,
)
from fed_unlearn.simulations.engines.errors import EngineError
from fed_unlearn.simulations.engines.processes import Marker, without_interrupts

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class LocalSuperLink:
    """A SuperLink with Flower's simulation runtime, which runs until the ``with`` block ends.

    Its Flower home is a temporary folder, so that the user's connections and a SuperLink that already runs are not
    touched. At the end all processes that it started are ended, with those of Ray.

    Parameters
    ----------
    log_file : Path
        The file that the SuperLink's output is written to.
    folder : Path, optional
        Folder in which ServerApps run. By default it is the temporary Flower home.

    Attributes
    ----------
    commands : FlowerCommands
        The ``flwr`` command with this SuperLink.
    """

    commands: FlowerCommands

    def __init__(self, log_file: Path, folder: Path | None = None) -> None:
        self._log_file, self._folder = log_file, folder
        self._home = Path()
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="fed-unlearn-flwr-"))
        try:
            port = free_port()
            (self._home / "config.toml").write_text(connection_file(f"127.0.0.1:{port}"))
            self._environment = environment_of(self._home)
            self.commands = FlowerCommands(self._environment)
            self._start(port)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, port: int) -> None:
        address = ("--host", "127.0.0.1", "--port", str(port))
        options = ("--insecure", "--simulation", "--disable-runtime-dependency-installation")
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [script("flower-superlink"), *options, *address], env=self._environment, cwd=self._folder or self._home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not is_healthy(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"flower-superlink did not start on port {port}; its output is in {self._log_file}")
            time.sleep(0.1)

    def _end(self) -> None:
        if self._process is not None:
            with without_interrupts(signal.SIGINT):
                self._process.terminate()
                Marker("FLWR_HOME", str(self._home)).end([self._process], _STOP_SECONDS)
            self._process = None
        shutil.rmtree(self._home, ignore_errors=True)


def is_healthy(port: int, root_certificates: Path | None = None) -> bool:
    """Whether a SuperLink answers on a port of 127.0.0.1.

    Parameters
    ----------
    port : int
    root_certificates : Path, optional
        The file with the certificate of its authority. Without it the connection is not encrypted.
    """
    scheme, context = "http", None
    if root_certificates is not None:
        scheme, context = "https", ssl.create_default_context(cafile=root_certificates)
    try:
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}/health", timeout=1.0, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
