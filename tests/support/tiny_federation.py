"""A federation small enough for hundreds of timelines: a linear model on digits of 4 x 4 pixels, thirty at a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from federation import all_digits
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from tiny_world import World
from torch import nn
from torch.nn.functional import avg_pool2d

from fed_unlearn.client import current_session, install, retained
from fed_unlearn.client import store as client_store
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

SAMPLES, HELD_OUT = 30, 12
SETTINGS = TrainingSettings(local_epochs=1, learning_rate=0.5, momentum=0.0, batch_size=16)


@cache
def tiny_data(client: int, clients: int, classes: int) -> ClientData:
    """Digits 0 to ``classes`` - 1 of 4 x 4 pixels; client 1 holds none of class 0."""
    source = all_digits()
    drawn = source.train.of_classes(set(range(classes)))
    held = drawn.subset(torch.arange(client, len(drawn), clients)[: SAMPLES + 2 * HELD_OUT])
    images, labels = avg_pool2d(held.images, 2), held.labels
    parts = {"train": slice(0, SAMPLES), "validation": slice(SAMPLES, -HELD_OUT), "test": slice(-HELD_OUT, None)}
    sets = {
        name: ImageSet(images[part], labels[part], [f"{client}-{name}-{i}" for i in range(len(labels[part]))])
        for name, part in parts.items()
    }
    if client == 1:
        sets["train"] = sets["train"].of_classes(set(range(1, classes)))
    return ClientData(**sets, class_count=classes, fingerprint=f"tiny {source.fingerprint}")


def tiny_model(classes: int) -> nn.Module:
    """A linear one, always with the same weights."""
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


class FaultyGrid(InProcessGrid):
    """The in-process grid of a world: some clients are offline, deaf, silent, late, or say everything twice."""

    def __init__(self, world: World, app: ClientApp) -> None:
        stores = [{"client-dir": str(world.store_path(client).parent)} for client in range(world.clients)]
        super().__init__(self._answered, world.clients, node_configs=stores)  # type: ignore[arg-type]
        self._world, self._app = world, app
        self._kind: str | None = None
        self._late: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        """Nodes of clients that can be reached now."""
        return [node for node in super().get_node_ids() if not self._world.is_offline(node - 1)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages one after the other; not every client answers, or once, or in time."""
        replies, self._late = self._late, []
        connected = set(self.get_node_ids())
        self._world.exchanges += 1
        for message in messages:
            node = message.metadata.dst_node_id
            if node not in connected:
                continue
            self._kind = kind = self._world.fault_at(node - 1, message.metadata.message_type)
            if kind == "deaf":
                continue
            [reply] = super().send_and_receive([message])
            if kind == "late":
                self._late.append(reply)
            elif kind != "silent":
                replies.extend([reply] * (2 if kind == "twice" else 1))
        return replies

    def _answered(self, message: Message, context: Context) -> Message:
        return self._world.answer(self._app, self._kind, message, context)


@dataclass
class TinyTask(Task):
    """The linear model and its digits."""

    world: World

    def build_model(self, context: Context) -> nn.Module:
        return tiny_model(self.world.classes)

    def load_data(self, context: Context) -> ClientData:
        return tiny_data(int(context.node_config["partition-id"]), self.world.clients, self.world.classes)

    def train(
        self, model: nn.Module, samples: ImageSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        return train_locally(model, samples, SETTINGS, generator)

    def device(self) -> torch.device:
        return torch.device("cpu")


def tiny_app(world: World) -> ClientApp:
    """A user's ClientApp with the unlearning actions."""
    app, task = ClientApp(), TinyTask(world)
    install(app, task)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        samples = retained(task.load_data(context).train, context)
        model = current_session().model_with(message.content.array_records["arrays"])
        number = int(str(message.content.config_records["config"]["server-round"]))
        passes = task.train(model, samples, ConfigRecord(), seeded_generator("tiny", number, task.client_id(context)))
        metrics = {"num-examples": len(samples), "forward-passes": passes.forward, "backward-passes": passes.backward}
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": len(task.load_data(context).validation), "loss": 1.0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


@dataclass
class Process:
    """One life of the server and of the clients' processes."""

    world: World
    new_strategy: Callable[[], ContinualUnlearning]

    def __post_init__(self) -> None:
        self.world.begin_process()
        self.grid = FaultyGrid(self.world, tiny_app(self.world))
        self.strategy = self.new_strategy()

    def end(self) -> None:
        """Whether in order or not, nothing in memory is left."""
        self.strategy.ledger.close()
        client_store._opened.clear()
