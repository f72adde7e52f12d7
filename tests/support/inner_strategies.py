"""Every strategy of Flower, made for tests, and one of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import numpy as np
import pytest
from federation import Federation
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import pack, unpack
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.training.trainer import Trainer

SEED = 3
HANDLER = "train.default"
QUIET = {"fraction_evaluate": 0.0}


def fixed(inner: Strategy | None = None, noise: float = 0.02, norm: float = 2.0, clients: int = 4) -> Strategy:
    wrapped = inner or flower.FedAvg(**QUIET)
    return flower.DifferentialPrivacyServerSideFixedClipping(wrapped, noise, norm, clients)


def adaptive(inner: Strategy | None = None, noise: float = 0.02, norm: float = 2.0, clients: int = 4) -> Strategy:
    wrapped = inner or flower.FedAvg(**QUIET)
    return flower.DifferentialPrivacyServerSideAdaptiveClipping(wrapped, noise, clients, initial_clipping_norm=norm)


MAKE: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: flower.FedAvg(**QUIET),
    "FedProx": lambda: flower.FedProx(proximal_mu=0.1, **QUIET),
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.5, **QUIET),
    "FedAdagrad": lambda: flower.FedAdagrad(eta=0.03, **QUIET),
    "FedAdam": lambda: flower.FedAdam(eta=0.03, **QUIET),
    "FedYogi": lambda: flower.FedYogi(eta=0.03, **QUIET),
    "QFedAvg": lambda: flower.QFedAvg(client_learning_rate=0.1, **QUIET),
    "FedMedian": lambda: flower.FedMedian(**QUIET),
    "FedTrimmedAvg": lambda: flower.FedTrimmedAvg(beta=0.3, **QUIET),
    "Krum": lambda: flower.Krum(**QUIET),
    "MultiKrum": lambda: flower.MultiKrum(num_nodes_to_select=3, **QUIET),
    "Bulyan": lambda: flower.Bulyan(**QUIET),
    "DifferentialPrivacyServerSideFixedClipping": fixed,
    "DifferentialPrivacyServerSideAdaptiveClipping": adaptive,
}
ROBUST = ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan")
PRIVATE = ("DifferentialPrivacyServerSideFixedClipping", "DifferentialPrivacyServerSideAdaptiveClipping")
REFUSED = {
    "FedXgbBagging": lambda: flower.FedXgbBagging(),
    "FedXgbCyclic": lambda: flower.FedXgbCyclic(),
    "DifferentialPrivacyClientSideFixedClipping": lambda: flower.DifferentialPrivacyClientSideFixedClipping(
        flower.FedAvg(), 1.0, 1.0, 4
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": lambda: flower.DifferentialPrivacyClientSideAdaptiveClipping(
        flower.FedAvg(), 0.1, 4
    ),
}


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("fed_unlearn")]


class HeavyBall(Strategy):
    """A strategy of the user's own: averages without weights, and goes on as before; its momentum begins at zeros."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.rounds = 0
        self.velocity: dict[str, np.ndarray] = {}
        self.last: list[np.ndarray] | None = None
        self.base: ArrayRecord | None = None
        self.callback = print

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.base = arrays
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        assert self.base is not None
        models = [unpack(message.content.array_records["arrays"]) for message in replies]
        base = unpack(self.base)
        change = {name: np.mean([model[name] - base[name] for model in models], axis=0) for name in base}
        self.velocity = {
            name: change[name] + self.momentum * self.velocity.get(name, np.zeros_like(change[name])) for name in change
        }
        self.rounds += 1
        self.last = list(change.values())
        self.momentum *= 0.99
        moved_by = {name: base[name] + self.velocity[name] / self.rounds for name in base}
        return pack({name: np.asarray(value) for name, value in moved_by.items()}), None

    def configure_evaluate(self, *_: object) -> Iterable[Message]:  # type: ignore[override]
        return []

    def aggregate_evaluate(self, *_: object) -> MetricRecord | None:  # type: ignore[override]
        return None

    def summary(self) -> None:
        pass


def with_training_loss(federation: Federation) -> Federation:
    """Clients that report the loss that q-FedAvg asks for."""
    handler = federation.app._registered_funcs[HANDLER]

    def reporting(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        reply.content.metric_records["metrics"]["train_loss"] = 1.0 + int(context.node_config["partition-id"])
        return reply

    federation.app._registered_funcs[HANDLER] = reporting
    return federation


def trainer_of(
    inner: Strategy, federation: Federation, record: Callable[..., object] | None = None, **settings: object
) -> Trainer:
    """A trainer; ``record`` is told of each round as the history is."""
    grid = EligibleGrid(federation.grid)
    grid.identify(4, 10.0, {})
    history = SimpleNamespace(record=record) if record is not None else None
    return Trainer(inner, grid, 10.0, SEED, history=history, **settings)  # type: ignore[arg-type]
