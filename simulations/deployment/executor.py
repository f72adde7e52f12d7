"""A warm executor: it has imported everything, and answers every message in a process forked from it.

Flower's own warm executors run on Kubernetes, for agents, models and connectors, and take no ClientApp. This one does
what ``flower-superexec`` does beside a SuperNode with ``--isolation process``: it asks the SuperNode's Runtime API for
a task and runs it. ``python -m fed_unlearn.simulations.deployment.executor`` is what ``fed-unlearn node`` starts.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.deployment.preloading import CLIENT_MODULES, preload, running_threads
from fed_unlearn.simulations.deployment.supernode import end_with_parent

if TYPE_CHECKING:
    from flwr.supercore.runtime import RuntimeHttpClient

logger = logging.getLogger("flwr")

_BAD_INPUT = 2
_FAST_SECONDS, _SLOWEST_SECONDS = 0.1, 2.0
_FAST_POLLS, _SLOWING = 100, 1.2
_STOP_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class RuntimeApi:
    """Where a SuperNode offers its tasks.

    Attributes
    ----------
    address : str
        Host and port.
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


class WarmExecutor:
    """Takes a SuperNode's tasks one after the other, each in a process of its own.

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
        self._running: dict[BaseProcess, float] = {}
        self._is_away = False

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
        process = multiprocessing.get_context("fork").Process(
            target=answer_message, args=(self._api, answer.token, self._threads), name=f"task-{answer.task.task_id}"
        )
        process.start()
        self._running[process] = time.monotonic()
        return True

    def reap(self) -> None:
        """Collect the processes that have ended, and say how those ended that crashed."""
        for process in [process for process in self._running if not process.is_alive()]:
            started = self._running.pop(process)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process.join()
            del before
            if process.exitcode is not None and process.exitcode < 0:
                logger.error("%s was killed by signal %d", process.name, -process.exitcode)
            logger.debug("%s: %.2f s", process.name, time.monotonic() - started)

    def stop(self) -> None:
        """End the processes that still run."""
        for process in self._running:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._running:
            process.join(max(deadline - time.monotonic(), 0))
            process.kill()
            process.join()
        self._running.clear()
        self._client.close()


def answer_message(api: RuntimeApi, token: str, threads: int) -> None:
    """Answer one message. It runs in a process forked for it, and does not return."""
    parent = os.getppid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    end_with_parent(parent, lambda: os._exit(1))  # without a word to the SuperNode, which then tells the server
    _refresh(threads)
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    run_clientapp(
        runtime_api_address=api.address,
        token=token,
        insecure=api.root_certificates is None,
        certificates=api.certificates(),
        runtime_dependency_install=api.installs_dependencies,
    )


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
        executor.reap()
        if executor.take_task():
            delay, fast = min(_FAST_SECONDS, slowest), _FAST_POLLS
        elif fast:
            fast -= 1
        else:
            delay = min(delay * _SLOWING, slowest)
        select.select([reader], [], [], delay)
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
        preload([*CLIENT_MODULES, *given.preload], given.app)
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
    logger.info("executor is warm after %.1f CPU s", time.process_time())
    _serve(WarmExecutor(api, threads), given.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
