"""A real federation by plain commands, whose processes can be killed and started one by one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.simulations.deployment.certificates import make_certificates, make_node_key

SCRIPTS = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], object], seconds: float, what: str, every: float = 0.2) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)


@dataclass
class Deployed:
    """A SuperLink, nodes, and commands beside them; all end with the ``with`` block of :func:`deployed`.

    Attributes
    ----------
    folder : Path
    nodes : int
        The largest number of nodes.
    auth : bool
        With TLS and node keys.
    """

    folder: Path
    nodes: int
    auth: bool = False
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    superlink_port: int = 0

    def __post_init__(self) -> None:
        self.superlink_port = free_port()
        self.home = self.folder / "flower"
        self.home.mkdir(parents=True)
        secured = "insecure = true"
        if self.auth:
            make_certificates(self.folder / "keys", ("127.0.0.1",))
            for number in range(self.nodes):
                make_node_key(self.key_of(number))
            secured = f'root-certificates = "{self.folder / "keys/ca.crt"}"'
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "loop"\n[superlink.loop]\naddress = "127.0.0.1:{self.superlink_port}"\n{secured}\n'
        )
        self.environment = {
            **os.environ,
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }

    def key_of(self, number: int) -> Path:
        return self.folder / "keys" / f"node-{number}.key"

    def client_dir(self, number: int) -> Path:
        return self.folder / "clients" / str(number)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; its output goes to ``NAME.txt``."""
        with (self.folder / f"{name}.txt").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(SCRIPTS / command[0]), *command[1:]],
                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def start_superlink(self) -> None:
        keys = self.folder / "keys"
        secured = ["--insecure"]
        if self.auth:
            secured = [
                *("--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile", str(keys / "server.crt")),
                *("--ssl-keyfile", str(keys / "server.key"), "--enable-supernode-auth"),
            ]
        address = ("--host", "127.0.0.1", "--port", str(self.superlink_port))
        database = str(self.folder / "superlink.db")
        self.start("superlink", "flower-superlink", *secured, *address, "--database", database)
        eventually(self._answers, 90, "the SuperLink answers")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.superlink_port)) == 0

    def register(self) -> None:
        for number in range(self.nodes):
            self.run("flwr", "supernode", "register", f"{self.key_of(number)}.pub", "loop")
        time.sleep(6.0)  # a node that starts sooner counts as one that registered itself

    def start_node(self, number: int) -> None:
        secured = ["--insecure"]
        if self.auth:
            secured = ["--root-certificates", str(self.folder / "keys/ca.crt")]
            secured += ["--auth-supernode-private-key", str(self.key_of(number))]
        config = f'partition-id={number} num-partitions={self.nodes} client-dir="{self.client_dir(number)}"'
        self.start(
            f"node-{number}", "fed-unlearn", "node", "--preload", "fed_unlearn.simulations.client_app", *secured,
            "--superlink", f"127.0.0.1:{self.superlink_port}", "--node-config", config,
        )  # fmt: skip

    def run(self, *command: str, check: bool = True, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [str(SCRIPTS / command[0]), *command[1:]], env=self.environment, cwd=self.folder, text=True,
            capture_output=True, timeout=seconds,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def kill(self, name: str) -> None:
        """Kill a process, and it alone, by SIGKILL."""
        self.processes[name].kill()
        self.processes[name].wait()

    def terminate(self, name: str, seconds: float = 60) -> int:
        """End a process in order; return its exit code."""
        self.processes[name].terminate()
        return self.processes[name].wait(seconds)

    def descendants(self, name: str) -> list[int]:
        """All processes below one."""
        found, left = list[int](), [self.processes[name].pid]
        while left:
            for child in children_of(left.pop()):
                found.append(child)
                left.append(child)
        return found

    def log_of(self, name: str) -> str:
        path = self.folder / f"{name}.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        for name in reversed(self.processes):
            self.processes[name].terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for pid in mentioning(str(self.folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    with suppress(OSError):
        return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def mentioning(text: str) -> list[int]:
    """Other processes whose command line or environment has a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if text.encode() in said and "State:\tZ" not in (entry / "status").read_text():
                found.append(int(entry.name))
    return found


@contextmanager
def deployed(folder: Path, nodes: int, *, auth: bool = False) -> Iterator[Deployed]:
    """A SuperLink that runs, and commands beside it. Nothing is left at the end."""
    federation = Deployed(folder, nodes, auth)
    try:
        federation.start_superlink()
        if auth:
            federation.register()
        yield federation
    finally:
        federation.end()
        shutil.rmtree(federation.home, ignore_errors=True)
