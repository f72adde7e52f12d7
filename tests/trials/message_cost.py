"""What a deployed message costs beyond its work: in a new process, as Flower starts it, and in a warm executor's.

    python -m tests.trials.message_cost [SCENARIO] [MESSAGES]

Every message of a training, of a test and of an identification is answered by a true ``flwr-clientapp`` process and by a
true executor, from one SuperNode's Runtime API. CPU seconds are of the process that answers; work is what the ClientApp
itself takes in a process that has done all of it before.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from statistics import median

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from lone_supernode import NODE_ID, SECRET, LoneSuperNode, lone_supernode

from fed_unlearn.arrays import pack
from fed_unlearn.simulations.client_app import app
from fed_unlearn.simulations.deployment.executor import RuntimeApi
from fed_unlearn.simulations.deployment.node import _environment, _python
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.task import new_model, source_of, training_config

RUN = 1


def main(scenario_name: str = "digits", messages: int = 3) -> None:
    """Print the table."""
    scenario = load_scenario(scenario_name)
    arrays = pack(new_model(scenario, source_of(scenario.data)).state_dict())
    training = ConfigRecord({**training_config(scenario.training, scenario.seed), "server-round": 1})
    contents: dict[str, Callable[[], RecordDict]] = {
        "query.identify": lambda: RecordDict({"config": ConfigRecord()}),
        "train": lambda: RecordDict({"arrays": arrays, "config": training}),
        "evaluate": lambda: RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})}),
    }
    config: dict[str, str | int] = {"partition-id": 0, "num-partitions": scenario.clients.count}
    with tempfile.TemporaryDirectory() as name, lone_supernode(config) as node:
        folder = Path(name)
        settings = {"scenario": scenario_name, "out": name}
        node.begin_run(RUN, Path(str(resources.files("fed_unlearn.simulations"))), settings)
        new = {kind: cold(node, folder, kind, content()) for kind, content in contents.items()}
        with executor(folder, node) as process:
            first = warm(node, process, "query.identify", contents["query.identify"]())
            print(f"the first message of a run, warm: {first:.2f} CPU s; it loads the data")
            print(f"{'CPU seconds':16} {'work':>8} {'new process':>12} {'warm':>8}")
            for kind, content in contents.items():
                later = median(warm(node, process, kind, content()) for _ in range(messages))
                done = work(settings, config, kind, content)
                print(f"{kind:16} {done:8.2f} {new[kind]:12.2f} {later:8.2f}", flush=True)


@contextmanager
def executor(folder: Path, node: LoneSuperNode) -> Iterator[subprocess.Popen[str]]:
    """A warm executor that tells what each message's process took."""
    (folder / "secret").write_bytes(SECRET)
    arguments = ["--parent", str(os.getpid()), "--runtime-api", node.address, "--secret-file", str(folder / "secret")]
    command = _python("executor", *arguments)
    process = subprocess.Popen(command, env=environment(folder), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def environment(folder: Path) -> dict[str, str]:
    """That of a node, with a Flower home of its own."""
    return {**_environment(None), "FLWR_HOME": str(folder / "home"), "FLWR_LOG_LEVEL": "DEBUG"}


def work(settings: dict[str, str], config: dict[str, str | int], kind: str, content: Callable[[], RecordDict]) -> float:
    """CPU seconds of the ClientApp, once everything is loaded."""
    context = Context(RUN, NODE_ID, dict(config), RecordDict(), dict(settings))
    for _ in range(2):
        message = Message(content(), dst_node_id=NODE_ID, message_type=kind)
        begun = time.process_time()
        app(message, context)
    return time.process_time() - begun


def cold(node: LoneSuperNode, folder: Path, kind: str, content: RecordDict) -> float:
    """CPU seconds of a new process that answers a message."""
    node.put(RUN, kind, content)
    client = RuntimeApi(address=node.address, secret=SECRET).client()
    answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
    command = ["flwr-clientapp", "--insecure", "--runtime-api-address", node.address, "--token", answer.token]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment(folder), capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert node.reply().has_content()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(node: LoneSuperNode, process: subprocess.Popen[str], kind: str, content: RecordDict) -> float:
    """CPU seconds of an executor's process that answers a message."""
    node.put(RUN, kind, content)
    assert node.reply().has_content()
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"message took ([\d.]+) CPU s", line):
            return float(found[1])
    raise RuntimeError("the executor has ended")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
