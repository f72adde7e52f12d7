"""A node of a real federation: a SuperNode and a warm executor, kept running until the command ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import selectors
import signal
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.simulations.deployment.nodes.supervised import WARM, Supervised, say
from fed_unlearn.text import quoted

_USAGE = 2
_REFUSED = {302, 303, 304, 401, 600, 602, 603, 604, 605, 606}
"""Flower's exit codes of a SuperNode that would end in the same way at every start."""

_STOP_SECONDS = 10.0
_PORT_TAKEN = "address already in use"


@dataclass(frozen=True, kw_only=True)
class NodeOrder:
    """What a node is to run.

    Parameters
    ----------
    flags : tuple of str
        The flags of ``flower-supernode``.
    gpu : str, optional
        The only GPU that messages see: an index as in ``nvidia-smi``, or a UUID. Default: all that this process sees.
    preload : tuple of str
        Modules that the executor imports once.
    app : Path, optional
        The folder of a Flower app whose imports from outside of it the executor imports once.
    """

    flags: tuple[str, ...] = ()
    gpu: str | None = None
    preload: tuple[str, ...] = ()
    app: Path | None = None

    def __post_init__(self) -> None:
        if self.gpu is not None and not all(part.isalnum() for part in self.gpu.replace("/", "-").split("-")):
            raise InvalidParameterError(
                f"--gpu {quoted(self.gpu)}: expected one GPU, as its index in nvidia-smi or its UUID"
            )
        if self.app is not None and not (self.app / "pyproject.toml").is_file():
            raise InvalidParameterError(f"--app {quoted(str(self.app))}: expected a folder with a pyproject.toml")


@dataclass(frozen=True)
class _RuntimeFlags:
    """Those of a SuperNode's flags that its executor must know."""

    host: str
    port: int | None
    root_certificates: str | None
    secret_file: str | None
    installs_dependencies: bool
    others: tuple[str, ...]


def run_node(order: NodeOrder) -> int:
    """Run a SuperNode and its executor until SIGINT, SIGTERM or SIGHUP.

    Each is started again when it ends, unless it refuses its flags.

    Returns
    -------
    int
        The exit code: 0 after SIGTERM or SIGHUP, 130 after SIGINT.

    Raises
    ------
    FedUnlearnError
        If the SuperNode or the executor refuses its flags. Nothing is left running.
    """
    flags = _runtime_flags(order.flags)
    with tempfile.TemporaryDirectory(prefix="fed-unlearn-node-") as folder, _signals() as (received, woken):
        node = _Node(order, flags, Path(folder))
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            try:
                while not received:
                    node.start_what_is_due(selector)
                    _wait(selector, woken, node.seconds_to_next_start())
                    node.see_what_ended(selector)
            finally:
                node.stop(selector, woken)
    return 130 if received[0] == signal.SIGINT else 0


class _Node:
    """The two processes of a node."""

    def __init__(self, order: NodeOrder, flags: _RuntimeFlags, folder: Path) -> None:
        self._order, self._flags = order, flags
        self._port = flags.port or _free_port(flags.host)
        self._secret_file = Path(flags.secret_file) if flags.secret_file else folder / "secret"
        if flags.secret_file is None:
            self._secret_file.write_bytes(secrets.token_bytes(32))  # the folder is this user's alone
        environment = _environment(order.gpu)
        self._executor = Supervised("executor", self._executor_command, environment, self._hear_executor)
        self._supernode = Supervised("SuperNode", self._supernode_command, environment, say)
        self._supernode.next_start = None
        self._both = (self._supernode, self._executor)
        self._was_warm = False

    def _hear_executor(self, line: str) -> None:
        """Pass a line on. The SuperNode starts with the first executor that is warm: it takes messages at once."""
        say(line)
        if WARM in line and not self._was_warm:
            self._was_warm = True
            self._supernode.next_start = time.monotonic()

    def start_what_is_due(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for process in self._both:
            if process.next_start is not None and process.next_start <= now:
                process.start(selector)

    def seconds_to_next_start(self) -> float | None:
        due = [process.next_start for process in self._both if process.next_start is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def see_what_ended(self, selector: selectors.BaseSelector) -> None:
        """Say what has ended and why, and when it starts again.

        Raises
        ------
        FedUnlearnError
            If it would end in the same way again.
        """
        for process in self._both:
            code = process.ended(selector)
            if code is None:
                continue
            reason, flower_code = _reason(process.last_lines)
            if code == _USAGE or flower_code in _REFUSED:
                raise FedUnlearnError(f"the {process.name} refuses its flags: {reason}")
            if process is self._supernode and self._flags.port is None and _PORT_TAKEN in " ".join(process.last_lines):
                self._port = _free_port(self._flags.host)
                self._executor.signal(signal.SIGTERM)
            ended = f"exit code {flower_code or code}" if code >= 0 else f"signal {-code}"
            because = f": {reason}" if reason else ""
            say(f"{process.name} ended with {ended}{because}; it is started again in {process.wait_longer():.0f} s")

    def stop(self, selector: selectors.BaseSelector, woken: socket.socket) -> None:
        """End both, the executor first; what does not end in time is killed."""
        deadline = time.monotonic() + _STOP_SECONDS
        for process in (self._executor, self._supernode):
            process.signal(signal.SIGTERM)
            while process.is_running and process.ended(selector) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    process.signal(signal.SIGKILL)
                _wait(selector, woken, min(max(left, 0.1), 1.0))
        say("node stopped")

    def _supernode_command(self) -> list[str]:
        own = ["--isolation", "process", "--host", self._flags.host, "--port", str(self._port)]
        own += ["--superexec-auth-secret-file", str(self._secret_file)]
        return _python("supernode", str(os.getpid()), *self._flags.others, *own)

    def _executor_command(self) -> list[str]:
        flags = self._flags
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(flags.host, flags.host)
        address = f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"
        options = ["--parent", str(os.getpid()), "--runtime-api", address, "--secret-file", str(self._secret_file)]
        if flags.root_certificates is not None:
            options += ["--root-certificates", flags.root_certificates]
        if flags.installs_dependencies:
            options.append("--installs-dependencies")
        options += [f"--preload={name}" for name in self._order.preload]
        if self._order.app is not None:
            options.append(f"--app={self._order.app}")
        return _python("executor", *options)


def _runtime_flags(flags: Sequence[str]) -> _RuntimeFlags:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--isolation")
    parser.add_argument("--ssl-ca-certfile")
    parser.add_argument("--superexec-auth-secret-file")
    parser.add_argument("--allow-runtime-dependency-installation", action="store_true")
    try:
        given, others = parser.parse_known_args(list(flags))
    except argparse.ArgumentError as error:
        raise InvalidParameterError(f"{error}; see flower-supernode --help") from error
    if given.isolation not in (None, "process"):
        raise InvalidParameterError(
            f"--isolation {quoted(given.isolation)}: this command brings an executor of its own; leave the flag out"
        )
    passed = [*others]
    if given.ssl_ca_certfile is not None:
        passed += ["--ssl-ca-certfile", given.ssl_ca_certfile]
    if given.allow_runtime_dependency_installation:
        passed.append("--allow-runtime-dependency-installation")
    return _RuntimeFlags(
        given.host,
        given.port,
        given.ssl_ca_certfile,
        given.superexec_auth_secret_file,
        given.allow_runtime_dependency_installation,
        tuple(passed),
    )


def _environment(gpu: str | None) -> Mapping[str, str]:
    scripts = os.pathsep.join(dict.fromkeys((sysconfig.get_path("scripts"), str(Path(sys.executable).parent))))
    environment = {
        "OPENBLAS_NUM_THREADS": "1",  # its threads would be lost in every fork; PyTorch has threads of its own
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # else asking whether there is a GPU spoils CUDA for every fork
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
    }
    return environment if gpu is None else {**environment, "CUDA_VISIBLE_DEVICES": gpu}


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"fed_unlearn.simulations.deployment.nodes.{module}", *arguments]


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return cast(int, probe.getsockname()[1])


def _reason(lines: Sequence[str]) -> tuple[str, int | None]:
    """What a process says of its end, and Flower's exit code, if it says one."""
    texts = [line.strip().removeprefix("ERROR: ").strip() for line in lines]
    for number, text in reversed(list(enumerate(texts))):
        if text.startswith("Exit Code: ") and text[11:].strip().isdecimal():
            told = [line for line in texts[number + 1 :] if line and not line.startswith("For more information")]
            return " ".join(told[:2]), int(text[11:])
    return (texts[-1] if texts else "", None)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[list[int], socket.socket]]:
    """Collect the signals that stop the command. The socket becomes readable at each, and when a process ends."""
    received: list[int] = []
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    handlers: dict[int, Callable[..., object]] = {
        signal.SIGINT: lambda number, _: received.append(number),
        signal.SIGTERM: lambda number, _: received.append(number),
        signal.SIGHUP: lambda number, _: received.append(number),
        signal.SIGCHLD: lambda *_: None,
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    descriptor = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    try:
        yield received, woken
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in previous.items():
            signal.signal(number, handler)
        woken.close()
        waker.close()


def _wait(selector: selectors.BaseSelector, woken: socket.socket, seconds: float | None) -> None:
    """Wait for a line, a signal or the end of a process."""
    for key, _ in selector.select(seconds):
        if isinstance(key.data, Supervised):
            key.data.read(selector)
        else:
            with contextlib.suppress(BlockingIOError):
                woken.recv(256)
