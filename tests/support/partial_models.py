"""Apps that send a part of their model, or keep one of their own at the client, on real digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from federation import CLIENTS, FAST_PLAN, DigitsTask, digits_of
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fed_unlearn.client import install, retained
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, Gate, UnlearningPlan

HEAD = "head"


class Net(nn.Module):
    """A body and a head, with BatchNorm between where asked for."""

    def __init__(self, *, normed: bool = False, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width) if normed else nn.Identity()
        )
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(images)))


class PartTask(DigitsTask):
    """A task whose app's own training starts from ``personal`` and sends ``arrays_of``."""

    def build_model(self, context: Context | None) -> nn.Module:
        with isolated_random(7):
            return Net()


class HeadOnly(PartTask):
    """The body is frozen, and the head travels."""

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        return {name: value for name, value in model.state_dict().items() if name.startswith("head")}

    def build_model(self, context: Context | None) -> nn.Module:
        with isolated_random(7):
            model = Net(width=256)
        model.body.requires_grad_(False)
        return model


class Adapters(PartTask):
    """A low-rank change of the body's layer and the head travel, under names of their own."""

    def build_model(self, context: Context | None) -> nn.Module:
        with isolated_random(7):
            model = Net(width=128)
            model.body[1].requires_grad_(False)
            model.body[1] = _Adapted(model.body[1])
        return model

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        state = model.state_dict()
        return {f"peft/{name}": value for name, value in state.items() if "plain" not in name}

    def load_arrays(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        model.load_state_dict({name.removeprefix("peft/"): value for name, value in arrays.items()}, strict=False)


class _Adapted(nn.Module):
    def __init__(self, plain: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.plain = plain
        self.down = nn.Linear(plain.in_features, rank, bias=False)
        self.up = nn.Linear(rank, plain.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.plain(images) + self.up(self.down(images))


class Kept(PartTask):
    """A task whose clients keep some arrays in ``context.state``: those for which ``is_kept`` is true."""

    def is_kept(self, name: str) -> bool:
        return name.startswith("head")

    def personal(self, model: nn.Module, context: Context) -> nn.Module:
        kept = context.state.array_records.get(HEAD)
        if kept is not None:
            model.load_state_dict(kept.to_torch_state_dict(), strict=False)
        return model

    def keep_personal(self, model: nn.Module, context: Context) -> None:
        own = {name: value for name, value in model.state_dict().items() if self.is_kept(name)}
        context.state[HEAD] = ArrayRecord(own)

    def forget_personal(self, context: Context) -> None:
        if HEAD in context.state:
            del context.state[HEAD]


class PrivateHead(Kept):
    """The whole model travels; the head that each client used last is kept beside it, and used at its evaluation."""


class CarelessHead(PrivateHead):
    """As before, and nothing is ever dropped or renewed by a request."""

    def forget_personal(self, context: Context) -> None:
        """Nothing."""

    keep_personal = PartTask.keep_personal


class OwnHead(Kept):
    """The body travels, and each client has a head of its own (FedPer)."""

    def arrays_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        return {name: value for name, value in model.state_dict().items() if not self.is_kept(name)}


class OwnNorm(OwnHead):
    """All but BatchNorm travels (FedBN)."""

    def is_kept(self, name: str) -> bool:
        return name.startswith("body.2")

    def build_model(self, context: Context | None) -> nn.Module:
        with isolated_random(7):
            return Net(normed=True)


def app_of(task: PartTask) -> ClientApp:
    """The app: it trains as it did before, and installs the actions."""
    app = ClientApp()
    install(app, task)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        samples = retained(task.load_data(context).train, context)
        model = task.build_model(context)
        sent = message.content.array_records["arrays"].to_torch_state_dict()
        model = task.personal(model, context)
        task.load_arrays(model, sent)
        number = int(str(message.content.config_records["config"]["server-round"]))
        task.train(model, samples, ConfigRecord(), seeded_generator("parts", number, task.client_id(context)))
        if isinstance(task, Kept):
            Kept.keep_personal(task, model, context)
        records = {
            "arrays": ArrayRecord(dict(task.arrays_of(model))),
            "metrics": MetricRecord({"num-examples": len(samples)}),
        }
        return Message(RecordDict(records), reply_to=message)

    return app


class Parts:
    """A federation of such an app, trained for some rounds."""

    def __init__(
        self,
        task: PartTask,
        folder: Path,
        rounds: int = 6,
        *,
        gate: Gate | None = None,
        plan: UnlearningPlan = FAST_PLAN,
    ) -> None:
        self.task, self.folder = task, folder
        stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(CLIENTS)]
        self.grid = InProcessGrid(app_of(task), CLIENTS, node_configs=stores)
        self.strategy = self.new_strategy(gate=gate, plan=plan)
        arrays = ArrayRecord(dict(task.arrays_of(task.build_model(None))))
        self.result = self.strategy.start(self.grid, arrays, num_rounds=rounds)

    def new_strategy(self, *, gate: Gate | None = None, plan: UnlearningPlan = FAST_PLAN) -> ContinualUnlearning:
        """The server, over the ledger of this federation."""
        inner = FedAvg(fraction_evaluate=0.0, min_available_nodes=2)
        return ContinualUnlearning(inner, ledger=self.folder / "ledger.db", plan=plan, gate=gate)

    def context(self, client: int) -> Context:
        """The context of a client, with its state."""
        return self.grid._contexts[client + 1]

    def used(self, client: int, arrays: ArrayRecord) -> nn.Module:
        """The model that a client uses, made by the test itself."""
        model = self.task.build_model(None)
        self.task.load_arrays(model, arrays.to_torch_state_dict())
        if isinstance(self.task, Kept) and HEAD in self.context(client).state:
            model.load_state_dict(self.context(client).state[HEAD].to_torch_state_dict(), strict=False)
        return model.eval()

    def accuracy(self, client: int, arrays: ArrayRecord, digit: int | None, *, without: int = -1) -> float:
        """Of the test samples of a client, of one class or of all others, that its own model has right."""
        test, model = digits_of(client).test, self.used(client, arrays)
        chosen = test.labels == digit if digit is not None else test.labels != without
        return float((model(test.images[chosen]).argmax(1) == test.labels[chosen]).float().mean())
