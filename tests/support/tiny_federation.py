"""A federation small enough for hundreds of timelines: a linear model on digits of 4 x 4 pixels, thirty at a client.

A :class:`World` is what outlives a process: folders, faults of clients, and where the power goes. A :class:`Process` is
what a power cut takes away: app, grid, strategy, open ledger and open stores.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.nn.functional import avg_pool2d

from fed_unlearn import client_store, ledger_file, protocol
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.ledger import Ledger
from fed_unlearn.methods.base import Method, Outcome, PassCounter
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

SAMPLES, HELD_OUT = 30, 12
SETTINGS = TrainingSettings(local_epochs=1, learning_rate=0.5, momentum=0.0, batch_size=16)
TRAINING = (protocol.TRAIN, protocol.REPAIR, protocol.UNLEARN)
"""Messages on which a client changes a model."""


class PowerCut(BaseException):
    """The process ends here; no handler of errors sees it."""


@cache
def _digits() -> ImageSource:
    return load_source("digits")


@cache
def tiny_data(client: int, clients: int, classes: int) -> ClientData:
    """Digits 0 to ``classes`` - 1 of 4 x 4 pixels; client 1 holds none of class 0."""
    source = _digits()
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


@dataclass(frozen=True)
class Fault:
    """What a client does wrong.

    Attributes
    ----------
    kind : str
        See :meth:`World.answer` and :class:`FaultyGrid`.
    message : str
        Type of the messages at which it does.
    client : int or None
        None for every client.
    first, times : int
        From which of those messages on, counted from 0 for each client, and how often. Of kind ``"offline"``, whatever
        the type: from which exchange on, and for how many.
    """

    kind: str
    message: str
    client: int | None
    first: int
    times: int

    def hits(self, client: int, number: int) -> bool:
        """Whether it is this client's, and due."""
        return self.client in (None, client) and self.first <= number < self.first + self.times


@dataclass
class World:
    """What outlives a process.

    Attributes
    ----------
    folder : Path
    clients, classes : int
    faults : tuple of Fault
    cuts : deque of int
        The power goes after so many points, and again after so many more.
    deeds : dict of int to callable
        What somebody else does beside the server, by the number of points passed since the beginning.
    on_message, on_training, on_point : callable
        Told of each message before a client handles it and after; of sample ids that a model is changed with; of each
        point of the run.
    """

    folder: Path
    clients: int
    classes: int
    faults: tuple[Fault, ...] = ()
    cuts: deque[int] = field(default_factory=deque)
    deeds: dict[int, Callable[[], None]] = field(default_factory=dict)
    on_message: Callable[[int, Message], None] = lambda client, message: None
    on_training: Callable[[int, Message, Iterable[str]], None] = lambda client, message, ids: None
    on_point: Callable[[str], None] = lambda name: None
    exchanges: int = 0
    points: int = 0
    _until_cut: int | None = None
    _counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _handled: tuple[int, Message] | None = None
    _quiet: bool = False

    def begin_process(self) -> None:
        """Start counting towards the next power cut; what the last process held open is gone."""
        client_store._opened.clear()
        self._handled, self._quiet = None, False
        if self._until_cut is None and self.cuts:
            self._until_cut = self.cuts.popleft()

    def heal(self) -> None:
        """From here on nothing goes wrong any more."""
        self.faults, self.deeds, self._until_cut = (), {}, None
        self.cuts.clear()

    def pass_point(self, name: str) -> None:
        """Reach one more point: somebody may act there, and the power may go."""
        if self._quiet:
            return
        self.points += 1
        with self.unseen():
            self.on_point(name)
            deed = self.deeds.get(self.points) if name != "transaction" else None
            if deed is not None:
                deed()
        if self._until_cut is not None:
            self._until_cut -= 1
            if self._until_cut <= 0:
                self._until_cut = None
                raise PowerCut

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What is done here is not the server's: it passes no points."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def store_path(self, client: int) -> Path:
        """Where a client keeps what it must not forget."""
        return self.folder / "clients" / str(client) / "state.json"

    def lose_store(self, client: int) -> None:
        """A disk that fails."""
        client_store._opened.clear()
        shutil.rmtree(self.store_path(client).parent, ignore_errors=True)

    def is_offline(self, client: int) -> bool:
        """Whether a client cannot be reached now."""
        return any(fault.kind == "offline" and fault.hits(client, self.exchanges) for fault in self.faults)

    def fault_at(self, client: int, message_type: str) -> str | None:
        """What a client does wrong with its next message of a type, which is counted."""
        number = self._counts[message_type, client]
        self._counts[message_type, client] += 1
        due = [
            fault.kind
            for fault in self.faults
            if fault.kind != "offline" and fault.message == message_type and fault.hits(client, number)
        ]
        return due[0] if due else None

    def answer(self, app: ClientApp, kind: str | None, message: Message, context: Context) -> Message:
        """What a client answers, right or wrong."""
        client = int(context.node_config["partition-id"])
        self.pass_point(f"{message.metadata.message_type} arrives")
        if kind == "raises":
            raise ValueError("sample 17 has label 3")
        self.on_message(client, message)
        self._handled = (client, message)
        try:
            reply = app(message, context)
        finally:
            self._handled = None
        self.on_message(client, message)
        self.pass_point(f"{message.metadata.message_type} is done")
        if kind == "raises-late":
            raise OSError("disk full")
        if kind in _SPOILED:
            _spoil(reply, kind)
        return reply

    def read(self, ids: Iterable[str]) -> None:
        """Note samples that are read while a client changes a model."""
        if self._handled is not None and self._handled[1].metadata.message_type in TRAINING:
            self.on_training(*self._handled, ids)


_SPOILED = ("nan", "shape", "dtype", "huge", "weightless")


def _spoil(reply: Message, kind: str) -> None:
    """Turn a client's model into one that must not be used, or at least not as it is."""
    for record in reply.content.values():
        if isinstance(record, MetricRecord) and kind == "weightless" and protocol.WEIGHT in record:
            record[protocol.WEIGHT] = 0
    for name, record in list(reply.content.items()):
        if isinstance(record, ArrayRecord) and record and kind != "weightless":
            changed = {key: _spoiled(array.numpy(), kind) for key, array in record.items()}
            reply.content[name] = ArrayRecord({key: Array(value) for key, value in changed.items()})


def _spoiled(value: np.ndarray, kind: str) -> np.ndarray:
    match kind:
        case "nan":
            return np.full_like(value, np.nan)
        case "shape":
            return np.concatenate([value, value])
        case "dtype":
            return value.astype(np.float64)
    return np.asarray(value * np.float32(1e6))


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


@contextmanager
def watched(world: World) -> Iterator[None]:
    """Make points of the ledger's outermost transactions and of every file, and note what training reads.

    Nothing is synced to disk meanwhile: a power cut is an exception here, and the machine stays up.
    """
    transaction, open_ledger = Ledger.transaction, ledger_file.open_ledger
    batch, unlearn, write = ImageSet.batch, Method.unlearn, client_store.write_atomically

    @contextmanager
    def watched_transaction(ledger: Ledger) -> Iterator[None]:
        outermost = not ledger._connection.in_transaction
        with transaction(ledger):
            yield
            if outermost:
                world.pass_point("transaction")
        if outermost:
            world.pass_point("committed")

    def watched_write(path: Path, content: bytes) -> None:
        world.pass_point("file")
        write(path, content)
        world.pass_point("written")

    def unsynced(path: Path, *, create: bool = True):  # type: ignore[no-untyped-def]
        connection = open_ledger(path, create=create)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    def watched_batch(samples: ImageSet, indices: torch.Tensor | slice = slice(None)):  # type: ignore[no-untyped-def]
        chosen = range(len(samples))[indices] if isinstance(indices, slice) else indices.tolist()
        world.read(samples.ids[index] for index in chosen)
        return batch(samples, indices)

    def watched_unlearn(method: Method, model: nn.Module, forget: ImageSet, *rest: object, **named: object) -> Outcome:
        for samples in (forget, *rest, *named.values()):
            if isinstance(samples, ImageSet):
                world.read(samples.ids)
        return unlearn(method, model, forget, *rest, **named)  # type: ignore[arg-type]

    with (
        mock.patch.object(Ledger, "transaction", watched_transaction),
        mock.patch.object(ledger_file, "open_ledger", unsynced),
        mock.patch.object(ImageSet, "batch", watched_batch),
        mock.patch.object(Method, "unlearn", watched_unlearn),
        mock.patch("os.fsync", lambda descriptor: None),
        mock.patch.object(client_store, "write_atomically", watched_write),
        mock.patch("fed_unlearn.checkpoints.write_atomically", watched_write),
        mock.patch("fed_unlearn.strategies.history.write_atomically", watched_write),
    ):
        yield
