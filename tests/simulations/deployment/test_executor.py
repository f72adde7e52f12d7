"""A warm executor against Flower's own Runtime API: what its processes are like, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from lone_supernode import SECRET, LoneSuperNode, lone_supernode

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.deployment.nodes import node as node_module
from fed_unlearn.simulations.deployment.nodes.preloading import _imports_of, preload

APP = Path(__file__).parents[2] / "support" / "plain_app"
HEAVY = {
    "avalanche", "datasets", "flwr_datasets", "matplotlib", "pandas", "ray", "scipy", "sklearn", "torchmetrics",
    "torchvision",
}  # fmt: skip


@contextmanager
def executor(
    folder: Path, node: LoneSuperNode, *options: str, gpu: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The true executor's process, in the environment that a node gives it."""
    (folder / "secret").write_bytes(SECRET)
    arguments = ["--parent", str(os.getpid()), "--runtime-api", node.address, "--secret-file", str(folder / "secret")]
    environment = {**node_module._environment(gpu), "FLWR_HOME": str(folder / "home")}
    environment.pop("OMP_NUM_THREADS", None)
    process = subprocess.Popen(
        node_module._python("executor", *arguments, *options), env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        _, told = process.communicate(timeout=30)
        print(told)


def process_facts(node: LoneSuperNode, run: int = 1) -> dict[str, Any]:
    node.put(run, "query.process", RecordDict({"config": ConfigRecord({})}))
    reply = node.reply()
    assert reply.has_content(), reply.error
    facts: dict[str, Any] = json.loads(str(reply.content["facts"]["json"]))  # type: ignore[index,call-overload]
    return facts


@pytest.mark.slow
def test_every_message_has_a_process_of_its_own_and_imports_nothing(tmp_path: Path) -> None:
    """One that is warm, sees its GPU, has not touched CUDA, has threads of its own, and draws its own numbers."""
    with lone_supernode({"client-id": "a", "client-dir": str(tmp_path / "a")}) as node:
        node.begin_run(1, APP, {"folder": str(tmp_path)})
        with executor(tmp_path, node, "--app", str(APP), gpu="5") as process:
            first, second = process_facts(node), process_facts(node)
            assert first["parent"] == second["parent"] == process.pid
            assert len({process.pid, first["pid"], second["pid"]}) == 3
            assert (first["gpu"], first["cuda"], first["bad-fork"]) == ("5", False, False)
            assert first["threads"] == second["threads"] == len(os.sched_getaffinity(0))
            assert all(a != b for a, b in zip(first["draws"], second["draws"], strict=True))
            assert not HEAVY & set(first["modules"])
            threads = Path(f"/proc/{process.pid}/task")
            assert not threads.is_dir() or len(list(threads.iterdir())) == 1


@pytest.mark.slow
def test_what_ends_an_executor_ends_its_processes_and_a_killed_one_is_named(tmp_path: Path) -> None:
    with lone_supernode({"client-id": "a", "client-dir": str(tmp_path / "a")}) as node:
        node.begin_run(1, APP, {"folder": str(tmp_path), "wait": 60})
        with executor(tmp_path, node) as process:
            for number in (signal.SIGKILL, signal.SIGTERM):
                pid = _waiting(node, tmp_path)
                if number == signal.SIGKILL:
                    os.kill(pid, signal.SIGKILL)
                    assert process.stderr is not None
                    while "was killed by signal 9" not in process.stderr.readline():
                        assert process.poll() is None
            process.kill()
            process.wait()
            _wait_until_gone(pid)


def _waiting(node: LoneSuperNode, folder: Path) -> int:
    """The process id of a message's process that is at work."""
    facts = folder / "process.json"
    facts.unlink(missing_ok=True)
    node.put(1, "query.process", RecordDict({"config": ConfigRecord({"now": time.time()})}))
    deadline = time.monotonic() + 60
    while not facts.is_file() or not facts.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(json.loads(facts.read_text())["pid"])


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and ") Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_apps_own_modules_are_not_preloaded_but_those_that_it_imports() -> None:
    sys.modules.pop("colorsys", None)
    found = _imports_of(APP)
    assert "colorsys" in found
    assert not [name for name in found if name.startswith("plain_app")]
    assert "plain_app" not in sys.modules


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="--preload: module 'no_such_module' cannot be imported"):
        preload(["no_such_module"], None)
    (tmp_path / "pyproject.toml").write_text("[tool.flwr]\n")
    with pytest.raises(InvalidParameterError, match="names no client app"):
        preload([], tmp_path)


LEAN = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(APP)!r})
import torch
from flwr.app import ArrayRecord, Message
from plain_app import app, PlainTask
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning
from flwr.serverapp.strategy import FedAvg

torch.set_num_threads(1)
folder = Path(sys.argv[1])
kinds = set()
class Noting(InProcessGrid):
    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        kinds.update(message.metadata.message_type for message in messages)
        return super().send_and_receive(messages, timeout=timeout)
configs = [{{"client-dir": str(folder / str(client)), "client-id": str(client)}} for client in range(2)]
grid = Noting(app, 2, node_configs=configs)
open_gate = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=folder / "ledger.db", gate=Gate(class_thresholds=open_gate))
strategy.submit(ForgetRequest.for_class(1, method="boundary-shrink"))
strategy.start(grid, initial_arrays=ArrayRecord(PlainTask().build_model(None).state_dict()), num_rounds=1)
print(sorted(kinds))
print(sorted(set(sys.modules) & {HEAVY!r}))
"""


def test_a_client_with_data_of_its_own_imports_nothing_heavy(tmp_path: Path) -> None:
    """After train, train.unlearn and evaluate.audit messages; the server is in the same process."""
    done = subprocess.run([sys.executable, "-c", LEAN, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kinds, heavy = done.stdout.strip().split("\n")[-2:]
    assert {"train", "train.unlearn", "evaluate.audit"} <= set(eval(kinds))
    assert heavy == "[]"
