"""A real federation for tests: Flower messages over the in-process Grid, real digits, a small model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from torch import nn

from fed_unlearn.client import current_session, install, retained
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import Indices, SampleSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, Observer, UnlearningPlan
from fed_unlearn.task import Task
from fed_unlearn.training import TrainingSettings, train_locally

CLIENTS = 4
SETTINGS = TrainingSettings(local_epochs=2, learning_rate=0.1, momentum=0.9, batch_size=32)


def small_model() -> nn.Module:
    """One hidden layer on 8 x 8 digits: fast, and good enough to learn and to forget."""
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


@cache
def all_digits() -> ImageSource:
    """The whole data set, read once in a process: nothing changes its tensors."""
    return load_source("digits")


def digits_of(client: int, clients: int = CLIENTS, size: int = 640) -> ClientData:
    """A client's share of the digits: every ``clients``-th of the first ``size`` training samples."""
    source = all_digits()
    held = source.train.subset(torch.arange(client, size, clients))
    return ClientData(
        train=held.subset(torch.arange(0, len(held) * 4 // 5)),
        validation=held.subset(torch.arange(len(held) * 4 // 5, len(held))),
        test=source.test.subset(torch.arange(client, len(source.test), clients)),
        class_count=10,
        fingerprint=source.fingerprint,
    )


@dataclass
class DigitsTask(Task):
    """The task of most tests; remembers the ids that every training batch was drawn from."""

    data_of: Callable[[int], ClientData] = digits_of
    model_of: Callable[[], nn.Module] = small_model
    settings: TrainingSettings = SETTINGS
    trained_ids: list[frozenset[str]] = field(default_factory=list)
    _data: dict[int, ClientData] = field(default_factory=dict)

    def build_model(self, context: Context) -> nn.Module:
        return self.model_of()

    def load_data(self, context: Context) -> ClientData:
        client = int(context.node_config["partition-id"])
        if client not in self._data:
            self._data[client] = self.data_of(client)
        return self._data[client]

    def train(
        self, model: nn.Module, samples: SampleSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        return train_locally(model, recording(samples, self), self.settings, generator)


def recording(samples: SampleSet, task: DigitsTask) -> SampleSet:
    """The same samples, of the same class, that tell which ids each batch was made of."""

    class Recording(type(samples)):  # type: ignore[misc]
        def batch(self, indices: torch.Tensor | slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
            chosen = range(len(self))[indices] if isinstance(indices, slice) else indices.tolist()
            task.trained_ids.append(frozenset(self.ids[index] for index in chosen))
            batch: tuple[torch.Tensor, torch.Tensor] = super().batch(indices)
            return batch

        def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return (self.batch(indices) for indices in positions)

    recorded = copy.copy(samples)
    recorded.__class__ = Recording
    return recorded


@dataclass
class Federation:
    """Clients, grid and the strategy's folder."""

    task: DigitsTask
    app: ClientApp
    grid: InProcessGrid
    folder: Path

    def strategy(
        self,
        inner: Strategy | None = None,
        *,
        gate: Gate | None = None,
        plan: UnlearningPlan | None = None,
        name: str = "server",
        receipts: Path | None = None,
        observer: Observer | None = None,
    ) -> ContinualUnlearning:
        """A strategy with a ledger of its own."""
        return ContinualUnlearning(
            inner if inner is not None else FedAvg(fraction_evaluate=0.0, min_available_nodes=2),
            ledger=self.folder / name / "ledger.db",
            gate=gate,
            plan=plan if plan is not None else FAST_PLAN,
            receipts=receipts,
            observer=observer,
        )


FAST_PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={"boundary-shrink": {"epochs": 10, "learning_rate": 0.02}},
    repair_rounds=1,
    retention_days=1.0,
    backoff_seconds=0.0,
)

OPEN_GATE = Gate(
    class_thresholds=Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None),
    sample_thresholds=Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None),
)
CLOSED_GATE = Gate(
    class_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0),
    max_repair_rounds=0,
    max_attempts=2,
)


def make_app(task: DigitsTask, *, uses_retained: Callable[[str], bool] = lambda client: True) -> ClientApp:
    """A user's ClientApp with the unlearning actions; some clients may train without asking for the retained view."""
    app = ClientApp()
    install(app, task)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = task.client_id(context)
        samples = task.load_data(context).train
        if uses_retained(client):
            samples = retained(samples, context)
        model = current_session().model_with(message.content.array_records["arrays"])
        number = int(str(message.content.config_records["config"]["server-round"]))
        passes = task.train(model, samples, ConfigRecord(), seeded_generator("test", number, client))
        metrics = {"num-examples": len(samples), "forward-passes": passes.forward, "backward-passes": passes.backward}
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    return app


def make_federation(
    folder: Path,
    *,
    clients: int = CLIENTS,
    task: DigitsTask | None = None,
    uses_retained: Callable[[str], bool] = lambda client: True,
) -> Federation:
    """A federation whose clients keep their stores under ``folder``."""
    task = task or DigitsTask()
    app = make_app(task, uses_retained=uses_retained)
    stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(clients)]
    return Federation(task, app, InProcessGrid(app, clients, node_configs=stores), folder)


def initial_arrays() -> ArrayRecord:
    """The weights that every test starts from."""
    return ArrayRecord(small_model().state_dict())


def same_bytes(first: ArrayRecord, second: ArrayRecord) -> bool:
    """Whether two models are equal bit for bit."""
    return set(first) == set(second) and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )
