"""A warm executor: it has imported everything, and answers every message in a process forked from it.

Flower's own warm executors run on Kubernetes, for agents, models and connectors, and take no ClientApp. This one does
what ``flower-superexec`` does beside a SuperNode with ``--isolation process``: it asks the SuperNode's Runtime API for
a task and runs it. ``python -m fed_unlearn.simulations.deployment.nodes.executor`` is what ``fed-unlearn node`` starts.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.parents import when_orphaned
from fed_unlearn.simulations.carried import carrier
from fed_unlearn.simulations.deployment.nodes.preloading import preload, running_threads
from fed_unlearn.simulations.deployment.nodes.supervised import WARM

if TYPE_CHECKING:
    from flwr.supercore.runtime import RuntimeHttpClient

logger = logging.getLogger("flwr")

_BAD_INPUT = 2
_FAST_SECONDS, _SLOWEST_SECONDS = 0.2, 2.0
_FAST_POLLS, _SLOWING = 15, 1.2
_KEEP_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class RuntimeApi:
    """Where a SuperNode offers its tasks.

    Attributes
    ----------
    address : str
        Host and port of the API.
    root_certificates : Path, optional
        The CA certificate of its TLS, if it has any.
    secret : bytes
        What signs the requests for tasks.
    installs_dependencies : bool
        Whether a message's process installs its app's dependencies.
    """

    address: str
    root_certificates: Path | None = None
    secret: bytes = b""
    installs_dependencies: bool = False

    def certificates(self) -> bytes | None:
        """The content of the CA certificate's file."""
        return None if self.root_certificates is None else self.root_certificates.read_bytes()

    def client(self) -> RuntimeHttpClient:
        """A client that asks for tasks, and raises at once where the SuperNode is away."""
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient

        return RuntimeHttpClient.from_server_address(
            self.address,
            self.root_certificates is None,
            self.certificates(),
            [
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=self.secret, protected_methods=["/flwr.proto.Runtime/AcquireTask"]
                ),
            ],
        )


@dataclass
class _Message:
    """A process that answers a message."""

    process: BaseProcess
    run_id: int
    parcels: Connection | None
    started: float


class WarmExecutor:
    """Takes a SuperNode's tasks, each in a process of its own, and carries a run's data from one to the next.

    Parameters
    ----------
    api : RuntimeApi
    threads : int
        PyTorch's threads in a message's process. This process must use one, so that none of its threads is lost in a
        fork.
    """

    def __init__(self, api: RuntimeApi, threads: int) -> None:
        self._api = api
        self._threads = threads
        self._client = api.client()
        self._messages: list[_Message] = []
        self._carried = (0, b"")
        self._last_task = time.monotonic()
        self._is_away = False

    @property
    def readable(self) -> list[Connection]:
        """What is worth a look when something can be read from it."""
        return [message.parcels for message in self._messages if message.parcels is not None]

    def take_task(self) -> bool:
        """Ask for a task, and start a process for it.

        Returns
        -------
        bool
            Whether there was one.
        """
        import httpx
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType

        try:
            answer = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
        except httpx.TransportError:
            if not self._is_away:
                logger.info("waiting for the SuperNode at %s", self._api.address)
            self._is_away = True
            return False
        if self._is_away:
            logger.info("the SuperNode at %s answers", self._api.address)
        self._is_away = False
        if not (answer.HasField("task") and answer.token):
            return False
        self._start(answer.task.task_id, answer.task.run_id, answer.token)
        return True

    def _start(self, task_id: int, run_id: int, token: str) -> None:
        carried_run, parcel = self._carried
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=answer_message,
            args=(os.getpid(), self._api, token, self._threads, parcel if carried_run == run_id else b"", sender),
            name=f"message {task_id} of run {run_id}",
        )
        process.start()
        sender.close()
        self._last_task = time.monotonic()
        self._messages.append(_Message(process, run_id, receiver, self._last_task))

    def collect(self) -> None:
        """Take the parcels that are there, and the processes that have ended; say which of those were killed."""
        for message in list(self._messages):
            if message.parcels is not None and message.parcels.poll():
                self._take_parcel(message, message.parcels)
            if message.parcels is None and not message.process.is_alive():
                self._messages.remove(message)
                seconds, code = time.monotonic() - message.started, message.process.exitcode or 0
                if code < 0:
                    logger.error("the process of %s was killed by signal %d", message.process.name, -code)
                logger.debug("%s took %.2f s", message.process.name, seconds)
        if not self._messages and time.monotonic() - self._last_task > _KEEP_SECONDS:
            self._carried = (0, b"")

    def _take_parcel(self, message: _Message, parcels: Connection) -> None:
        try:
            self._carried = (message.run_id, parcels.recv_bytes())
        except (EOFError, OSError):  # it had nothing new, or was killed
            parcels.close()
            message.parcels = None

    def stop(self) -> None:
        """End the processes that still run, at once: the SuperNode then tells the server that they are gone.

        One that ends in order tells the SuperNode that its task is over and gives no reply, for which the SuperNode
        would wait for ever.
        """
        for message in self._messages:
            message.process.kill()
        for message in self._messages:
            message.process.join()
        self._messages.clear()
        self._client.close()


def answer_message(parent: int, api: RuntimeApi, token: str, threads: int, parcel: bytes, parcels: Connection) -> None:
    """Answer one message, in a process forked for it by the parent, and send what the next one is to receive."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    when_orphaned(parent, lambda: os._exit(1))  # without a word to the SuperNode, which then tells the server
    loaded = set(sys.modules)
    _refresh(threads)
    carrier.receive(parcel)
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    try:
        run_clientapp(
            runtime_api_address=api.address,
            token=token,
            insecure=api.root_certificates is None,
            certificates=api.certificates(),
            runtime_dependency_install=api.installs_dependencies,
        )
    finally:
        if (packed := carrier.parcel()) is not None:
            parcels.send_bytes(packed)
        imported = sorted({name.partition(".")[0] for name in sys.modules.keys() - loaded})
        logger.debug("message took %.2f CPU s; imported %s", time.process_time(), ", ".join(imported) or "nothing")


def _refresh(threads: int) -> None:
    """Make a forked process what a new one would be. Python itself draws a new seed for ``random``."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    np.random.seed()  # forked processes would all draw the same numbers


def _serve(executor: WarmExecutor, parent: int) -> None:
    """Take tasks until a signal or the parent's end. Polls are short after a message, and grow longer without one."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    slowest = float(os.environ.get("FLWR_SUPEREXEC_TASK_POLL_INTERVAL") or _SLOWEST_SECONDS)
    delay, fast = min(_FAST_SECONDS, slowest), 0
    while not stopping and os.getppid() == parent:
        executor.collect()
        if executor.take_task():
            delay, fast = min(_FAST_SECONDS, slowest), _FAST_POLLS
        elif fast:
            fast -= 1
        else:
            delay = min(delay * _SLOWING, slowest)
        watched: list[int | Connection] = [reader, *executor.readable]
        select.select(watched, [], [], delay)
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 64)
    executor.stop()


def main(arguments: list[str]) -> int:
    """Run an executor until it is stopped, and return its exit code: 2 where its options are wrong."""
    parser = argparse.ArgumentParser(prog="executor")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--runtime-api", required=True)
    parser.add_argument("--root-certificates", type=Path)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--installs-dependencies", action="store_true")
    parser.add_argument("--preload", action="append", default=[])
    parser.add_argument("--app", type=Path)
    given = parser.parse_args(arguments)
    try:
        preload(given.preload, given.app)
        api = RuntimeApi(
            address=given.runtime_api,
            root_certificates=given.root_certificates,
            secret=given.secret_file.read_bytes(),
            installs_dependencies=given.installs_dependencies,
        )
    except (FedUnlearnError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return _BAD_INPUT
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if (running := running_threads()) > 1:
        logger.warning("%d threads run in the executor; those of a preloaded module are lost in every fork", running)
    logger.info("%s after %.1f CPU s", WARM, time.process_time())
    _serve(WarmExecutor(api, threads), given.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
