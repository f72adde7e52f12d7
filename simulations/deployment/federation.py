"""A federation on this machine: a SuperLink and its nodes, each a process of its own, which all end with it."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from fed_unlearn.checkpoints import make_private_folder
from fed_unlearn.locks import LAUNCH_LOCK, exclusive
from fed_unlearn.simulations.deployment import watched
from fed_unlearn.simulations.deployment.certificates import make_certificates, make_node_key
from fed_unlearn.simulations.deployment.layout import HOST, Layout
from fed_unlearn.simulations.engines.commands import (
    CONNECTION,
    FlowerCommands,
    connection_file,
    environment_of,
    free_port,
)
from fed_unlearn.simulations.engines.errors import EngineError
from fed_unlearn.simulations.engines.processes import Marker, without_interrupts
from fed_unlearn.simulations.engines.superlink import is_healthy

CLIENT_APP = "fed_unlearn.simulations.client_app"
"""What nodes import once."""

_MARKER = "FED_UNLEARN_LAUNCH"
_START_SECONDS, _STOP_SECONDS = 60.0, 10.0
_COMMANDS_AT_ONCE = 4
_LONGEST_LINE = 200
_ENDED = re.compile(r"(SuperNode|executor) ended with ")


class LocalFederation:
    """A SuperLink and its nodes, which run until the ``with`` block ends.

    In the run folder it writes ``logs/NAME.txt`` of each process, ``keys/`` where there are any, and ``superlink/``
    with the SuperLink's database and the Flower home, which has the connection. The database holds models and nothing
    that lasts: ``superlink/`` is removed at the end, or else at the next start.

    Parameters
    ----------
    out : Path
        The run folder.
    layout : Layout
    say : callable
        Called with a line when a part of a node ended and is started again.

    Attributes
    ----------
    commands : FlowerCommands
        The ``flwr`` command with this SuperLink.
    port : int
        Port of the SuperLink.
    """

    commands: FlowerCommands
    port: int

    def __init__(self, out: Path, layout: Layout, say: Callable[[str], None] = lambda line: None) -> None:
        self._out, self._layout, self._say = out, layout, say
        self._logs, self._keys, self._folder = out / "logs", out / "keys", out / "superlink"
        self._marker = Marker(_MARKER, secrets.token_hex(16))
        self._environment: dict[str, str] = {}
        self._superlink: subprocess.Popen[bytes] | None = None
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._read: dict[int, int] = {}
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        make_private_folder(self._out)
        advice = "wait for its end, or end it"
        self._lock.enter_context(exclusive(self._out / LAUNCH_LOCK, f"the federation of {self._out}", advice))
        try:
            self._prepare()
            self._start_superlink()
            self._start_nodes()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def how_to_use(self) -> str:
        """How ``flwr`` is called with this federation."""
        return f"FLWR_HOME={self._environment['FLWR_HOME']} flwr ls {CONNECTION}"

    def check(self) -> None:
        """Say what nodes had to start again, and raise if a process has ended that must run on.

        Raises
        ------
        EngineError
            The message has the last line of its log.
        """
        if self._superlink is not None and self._superlink.poll() is not None:
            raise EngineError(f"the SuperLink has ended: {self.last_line('superlink')}")
        for number, process in enumerate(self._nodes):
            if process.poll() is not None:
                raise EngineError(f"node {number} has ended: {self.last_line(_name(number))}")
            for line in self._new_lines(number):
                if _ENDED.match(line):
                    self._say(f"node {number}: {line}")

    def last_line(self, name: str) -> str:
        """The last line of a process's log that says something, and where the log is."""
        path = self._logs / f"{name}.txt"
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = deque((line.strip() for line in file if line.strip()), maxlen=1)
        said = lines[0][:_LONGEST_LINE] if lines else "it printed nothing"
        return f"{said}; its log is {path}"

    def _new_lines(self, number: int) -> list[str]:
        """The whole lines of a node's log since the last call."""
        with (self._logs / f"{_name(number)}.txt").open("rb") as file:
            file.seek(self._read[number])
            whole, _, _ = file.read().rpartition(b"\n")
        self._read[number] += len(whole) + 1 if whole else 0
        return whole.decode(errors="replace").splitlines()

    def _prepare(self) -> None:
        self._layout.check_port()
        self.port = free_port() if self._layout.port is None else self._layout.port
        shutil.rmtree(self._folder, ignore_errors=True)
        home = self._folder / "home"
        for folder in (self._logs, home):
            make_private_folder(folder)
        if self._layout.tls:
            make_certificates(self._keys, (HOST, "localhost"))
        if self._layout.auth:
            for number in range(self._layout.nodes):
                make_node_key(self._key(number))
        root = self._root_certificates
        text = connection_file(f"{HOST}:{self.port}", None if root is None else str(root))
        (home / "config.toml").write_text(text, encoding="utf-8")
        self._environment = {**environment_of(home), self._marker.name: self._marker.value}
        self.commands = FlowerCommands(self._environment)

    @property
    def _root_certificates(self) -> Path | None:
        return self._keys / "ca.crt" if self._layout.tls else None

    def _key(self, number: int) -> Path:
        return self._keys / f"{_name(number)}.key"

    def _start_superlink(self) -> None:
        secured = ["--insecure"]
        if self._layout.tls:
            files = (("ca-certfile", "ca.crt"), ("certfile", "server.crt"), ("keyfile", "server.key"))
            secured = [part for option, name in files for part in (f"--ssl-{option}", str(self._keys / name))]
        if self._layout.auth:
            secured.append("--enable-supernode-auth")
        self._superlink = self._start(
            "superlink",
            "flower-superlink",
            *secured,
            *("--host", HOST, "--port", str(self.port), "--database", str(self._folder / "state.db")),
            "--disable-runtime-dependency-installation",
        )
        deadline = time.monotonic() + _START_SECONDS
        while not is_healthy(self.port, self._root_certificates):
            if self._superlink.poll() is not None:
                raise EngineError(f"the SuperLink did not start: {self.last_line('superlink')}")
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the SuperLink does not answer after {_START_SECONDS:.0f} s: {self.last_line('superlink')}"
                )
            time.sleep(0.1)

    def _start_nodes(self) -> None:
        secured = (
            ["--insecure"] if self._root_certificates is None else ["--root-certificates", str(self._root_certificates)]
        )
        if self._layout.auth:
            keys = [self._key(number).with_suffix(".key.pub") for number in range(self._layout.nodes)]
            with ThreadPoolExecutor(_COMMANDS_AT_ONCE) as pool:
                list(pool.map(self.commands.register_node, keys))
        for number in range(self._layout.nodes):
            gpu = ["--gpu", str(self._layout.gpu_of(number))] if self._layout.gpus else []
            own = ["--auth-supernode-private-key", str(self._key(number))] if self._layout.auth else []
            log = self._logs / f"{_name(number)}.txt"
            self._read[number] = log.stat().st_size if log.exists() else 0
            process = self._start(
                _name(number),
                "fed-unlearn",
                *("node", *gpu, "--preload", CLIENT_APP),
                *secured,
                *own,
                *("--superlink", f"{HOST}:{self.port}", "--node-config", self._node_config(number)),
            )
            self._nodes.append(process)

    def _node_config(self, number: int) -> str:
        """What the app is told of a node; Flower takes it as TOML."""
        folder = json.dumps(str(self._out / "clients" / str(number)), ensure_ascii=False)
        return f"partition-id={number} num-partitions={self._layout.nodes} client-dir={folder}"

    def _start(self, name: str, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._logs / f"{name}.txt").open("ab") as log:
            return subprocess.Popen(
                watched.command(command, *arguments), env=self._environment, cwd=self._folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _end(self) -> None:
        """End all processes: first the nodes, which tell the SuperLink so."""
        superlink = [self._superlink] if self._superlink is not None else []
        with without_interrupts(signal.SIGINT, signal.SIGTERM):
            for process in self._nodes:
                process.terminate()
            deadline = time.monotonic() + _STOP_SECONDS / 2
            while any(process.poll() is None for process in self._nodes) and time.monotonic() < deadline:
                time.sleep(0.1)
            for process in superlink:
                process.terminate()
            self._marker.end([*self._nodes, *superlink], _STOP_SECONDS)
        self._superlink, self._nodes = None, []
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()


def _name(number: int) -> str:
    return f"node-{number}"
