"""A Flower app whose clients raise, answer late, or send what is no model, on Ray as in process.

Which fault is due can be read from the message: the training round, or the request and its attempt. A client that is
late does what it was asked to, and answers when the server waits no longer; in process, the grid does that in its place.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.data.sources import load_source
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

CLIENTS = 3
PATIENCE = 4.0
"""Seconds that the server waits where somebody is late."""
_LATE = PATIENCE + 0.5

IN_TRAINING = {2: "raises", 3: "nan", 4: "infinite", 5: "shape", 6: "dtype", 7: "late"}
"""What client 2 does wrong, by training round."""
IN_UNLEARNING = {
    ("class-raises", "0"): ("raises", 9),
    ("class-nan", "1"): ("nan", 1),
    ("samples-shape", "1"): ("shape", 1),
    ("samples-late", "2"): ("late", 1),
    ("class-late", "1"): ("late", 1),
}
"""What a client does wrong when it is to unlearn a request, and in how many attempts."""

_OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={"boundary-shrink": {"epochs": 1, "learning_rate": 0.02}, "instance-wise": {"max_steps": 5}},
    max_holder_steps=1,
    share_rounds=False,
    retries=1,
    backoff_seconds=0.1,
)


def new_model() -> nn.Module:
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@cache
def digits_of(client: int) -> ClientData:
    source = load_source("digits")
    held = source.train.subset(torch.arange(client, 60 * CLIENTS, CLIENTS))
    return ClientData(
        train=held.subset(torch.arange(0, 40)),
        validation=held.subset(torch.arange(40, 60)),
        test=source.test.subset(torch.arange(client, 30 * CLIENTS, CLIENTS)),
        class_count=10,
        fingerprint=source.fingerprint,
    )


class DigitsTask(Task):
    def build_model(self, context: Context) -> nn.Module:
        return new_model()

    def load_data(self, context: Context) -> ClientData:
        return digits_of(int(context.node_config["partition-id"]))

    def train(
        self, model: nn.Module, samples: ImageSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        settings = TrainingSettings(local_epochs=1, learning_rate=0.1, momentum=0.0, batch_size=16)
        return train_locally(model, samples, settings, generator)

    def store_folder(self, context: Context) -> Path:
        return Path(str(context.run_config["out"])) / "clients" / self.client_id(context)

    def device(self) -> torch.device:
        return torch.device("cpu")


# ---------------------------------------------------------------------- the clients

task = DigitsTask()
client = ClientApp()
install(client, task)
honest_unlearn = client._registered_funcs[protocol.UNLEARN]


@client.train()
def train(message: Message, context: Context) -> Message:
    """One round on retained samples, and what this client does wrong in it."""
    torch.set_num_threads(1)
    samples = retained(task.load_data(context).train, context)
    model = current_session().model_with(message.content.array_records["arrays"])
    number = int(str(message.content.config_records["config"]["server-round"]))
    task.train(model, samples, ConfigRecord(), seeded_generator("faulty", number, task.client_id(context)))
    content = RecordDict(
        {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(samples)})}
    )
    kind = IN_TRAINING.get(number) if task.client_id(context) == "2" else None
    return wrong(kind, Message(content, reply_to=message), context)


def unlearn(message: Message, context: Context) -> Message:
    """Unlearn, and do something wrong in it."""
    torch.set_num_threads(1)
    [target] = protocol.UnlearnInstruction.from_message(message).targets
    kind, attempts = IN_UNLEARNING.get((target.request_id, task.client_id(context)), (None, 0))
    reply = honest_unlearn(message, context)
    reply.content = protocol.unbundled(reply.content)
    if (honest := reply.content.array_records.get("arrays")) is not None:  # without the arrays that it did not change
        reply.content["arrays"] = ArrayRecord({**message.content.array_records["arrays"], **honest})
    return wrong(kind if target.attempt <= attempts else None, reply, context)


client._registered_funcs[protocol.UNLEARN] = unlearn


def wrong(kind: str | None, reply: Message, context: Context) -> Message:
    """Do something wrong with an answer."""
    if kind == "raises":
        raise OSError("disk full")
    if kind == "late" and context.run_config["engine"] == "ray":
        time.sleep(_LATE)
    change: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "nan": lambda value: np.full_like(value, np.nan),
        "infinite": lambda value: np.full_like(value, np.inf),
        "shape": lambda value: np.concatenate([value, value]),
        "dtype": lambda value: value.astype(np.float64),
    }
    if kind in change:
        record = reply.content.array_records["arrays"]
        reply.content["arrays"] = ArrayRecord(
            {key: Array(change[kind](value.numpy())) for key, value in record.items()}
        )
    return reply


# ---------------------------------------------------------------------- the server

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run it on Ray, and write down what came of it."""
    out = Path(str(context.run_config["out"]))
    (out / "facts.json").write_text(json.dumps(run(grid, out)))


def run(grid: Grid, out: Path, before: Callable[[str], None] = lambda phase: None) -> dict[str, object]:
    """Training and requests with every fault; what is known after each phase.

    Parameters
    ----------
    grid : Grid
    out : Path
    before : callable
        Told which phase begins.
    """
    strategy = ContinualUnlearning(
        FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS),
        ledger=out / "ledger.db",
        gate=Gate(class_thresholds=_OPEN, sample_thresholds=_OPEN),
        plan=PLAN,
    )
    facts: dict[str, object] = {}

    def phase(name: str, rounds: int, requests: Sequence[ForgetRequest] = (), timeout: float = 60.0) -> None:
        before(name)
        for request in requests:
            strategy.submit(request)
        initial = ArrayRecord(new_model().state_dict())
        result = strategy.start(grid, initial, num_rounds=rounds, timeout=timeout)
        digest = hashlib.sha256(b"".join(result.arrays[key].numpy().tobytes() for key in result.arrays)).hexdigest()
        entries = strategy.ledger.entries()
        facts[name] = {
            "model": digest,
            "requests": {entry.id: [str(entry.status), entry.attempt, list(entry.owed)] for entry in entries},
        }

    phase("training", 6)
    phase("late training", 1, timeout=PATIENCE)
    phase(
        "requests",
        0,
        (
            ForgetRequest.for_class(1, id="class-raises"),
            ForgetRequest.for_class(2, id="class-nan"),
            ForgetRequest.for_samples(1, count=2, id="samples-shape"),
        ),
    )
    late = ForgetRequest.for_samples(2, count=2, id="samples-late"), ForgetRequest.for_class(3, id="class-late")
    phase("late requests", 0, late, timeout=PATIENCE)
    phase("all is well", 1)
    return facts
