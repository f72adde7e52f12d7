"""A trained federation behind a grid with faults, and what tests of faults look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from faulty_grid import FOREVER, SPOILED, FaultyGrid
from federation import DigitsTask, Federation, digits_of, initial_arrays, make_federation
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy
from stores import stored_requests

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.data.images import ClientData
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan, UnlearningResult

_OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
OPEN = Gate(class_thresholds=_OPEN, sample_thresholds=_OPEN, client_thresholds=_OPEN)
PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={"boundary-shrink": {"epochs": 2, "learning_rate": 0.02}, "instance-wise": {"max_steps": 10}},
    repair_rounds=1,
    retention_days=1.0,
    backoff_seconds=0.0,
    client_method="retrain",
    max_holder_steps=2,
)
SCOPES = {
    "class": ForgetRequest.for_class(3),
    "sample": ForgetRequest.for_samples(2, count=2),
    "client": ForgetRequest.for_client(2),
}
CLASS, SAMPLES, CLIENT = SCOPES.values()
ALWAYS_WRONG = ("raises", *SPOILED)
"""What a client that answers, but not as it should, may do."""
NO_ANSWER = ("deaf", "silent", "late")


def few_digits(client: int, clients: int = 4) -> ClientData:
    """Half of what :func:`federation.digits_of` gives a client."""
    return digits_of(client, clients, 320)


def quiet_averaging() -> Strategy:
    """Without evaluation."""
    return FedAvg(fraction_evaluate=0.0)


def evaluating() -> Strategy:
    """With all clients in every evaluation."""
    return FedAvg(fraction_evaluate=1.0)


def no_threes(client: int) -> ClientData:
    """As :func:`few_digits`, without samples of class 3 to train on."""
    data = few_digits(client)
    return replace(data, train=data.train.of_classes(set(range(10)) - {3}))


def no_three_at_client_2(client: int) -> ClientData:
    """Client 2 has no sample of class 3."""
    return no_threes(client) if client == 2 else few_digits(client)


def threes_at_client_2_alone(client: int) -> ClientData:
    """No other client has a sample of class 3."""
    return few_digits(client) if client == 2 else no_threes(client)


@dataclass
class Trial:
    """A federation, its grid with faults, and a strategy that serves it.

    Attributes
    ----------
    folder : Path
    data_of : callable
    plan : UnlearningPlan
    gate : Gate
    new_inner : callable
        Makes the strategy that is wrapped.
    receipts : bool
        Whether the server issues receipts, into the folder ``receipts``.
    """

    folder: Path
    data_of: Callable[[int], ClientData] = few_digits
    plan: UnlearningPlan = PLAN
    gate: Gate = OPEN
    new_inner: Callable[[], Strategy] = quiet_averaging
    receipts: bool = False
    federation: Federation = field(init=False)
    grid: FaultyGrid = field(init=False)
    strategy: ContinualUnlearning = field(init=False)

    def __post_init__(self) -> None:
        self.federation = make_federation(self.folder, task=DigitsTask(data_of=self.data_of))
        self.grid = FaultyGrid(self.federation.grid)
        self.strategy = self.new_strategy()
        self.federation.app.evaluate()(_evaluate)

    def train(self, rounds: int = 2) -> UnlearningResult:
        """So many rounds, from the first model in the first call."""
        return self.strategy.start(self.grid, initial_arrays(), num_rounds=rounds, timeout=0.2)

    def serve(self, *requests: ForgetRequest) -> UnlearningResult:
        """Submit requests, and serve what is queued."""
        for request in requests:
            self.strategy.submit(request)
        return self.strategy.start(self.grid, num_rounds=0, timeout=0.2)

    def restart(self) -> None:
        """Another process takes over the ledger."""
        self.strategy.ledger.close()
        self.strategy = self.new_strategy()

    def new_strategy(self) -> ContinualUnlearning:
        """The strategy as another process would make it."""
        folder = self.folder / "receipts" if self.receipts else None
        return self.federation.strategy(self.new_inner(), gate=self.gate, plan=self.plan, receipts=folder)

    def do(self, kind: str, client: int, message_type: str, times: int = FOREVER) -> None:
        """Let a client do something wrong: one of :class:`faulty_grid.Fault`'s kinds or of what is spoiled."""
        if kind == "gone":
            self.grid.gone.add(client)
        elif kind in SPOILED:
            self.grid.spoil(SPOILED[kind], client, message_type, times)
        else:
            self.grid.fault(kind, client, message_type, times)

    def recorded(self, message_type: str) -> list[tuple[int, Arrays]]:
        """A list that fills with the models that clients answer from now on, before anything else happens to them."""
        found: list[tuple[int, Arrays]] = []

        def note(client: int, reply: Message) -> None:
            found.append((client, unpack(protocol.arrays_of(reply))))

        self.grid.watch(message_type, note)
        return found

    def stored(self, client: int) -> dict[str, dict[str, object]]:
        """What a client keeps of each request."""
        return stored_requests(self.folder / "clients" / str(client) / "state.json")

    def status(self, name: str = "r1") -> Status:
        """Where a request stands."""
        return self.strategy.ledger.entry(name).status

    def reason(self, name: str = "r1") -> str:
        """Why a request stands there."""
        return self.strategy.ledger.entry(name).reason or ""

    def owed(self, name: str = "r1") -> tuple[str, ...]:
        """The clients that have yet to learn of a request."""
        return tuple(self.strategy.ledger.entry(name).owed)

    def trained_on(self) -> frozenset[str]:
        """Samples in any training batch since this was last asked."""
        seen = frozenset().union(*self.federation.task.trained_ids)
        self.federation.task.trained_ids.clear()
        return seen

    def ids_of_class(self, client: int, label: int) -> frozenset[str]:
        """A client's training samples of a class."""
        data = self.data_of(client).train
        return frozenset(name for name, own in zip(data.ids, data.labels.tolist(), strict=True) if own == label)

    def ids_of(self, client: int) -> frozenset[str]:
        """A client's training samples."""
        return frozenset(self.data_of(client).train.ids)


def trained(folder: Path, **settings: object) -> Trial:
    """A trial after two rounds without faults."""
    trial = Trial(folder, **settings)  # type: ignore[arg-type]
    trial.train()
    return trial


def _evaluate(message: Message, context: Context) -> Message:
    metrics = MetricRecord({"num-examples": 10, "loss": float(context.node_config["partition-id"])})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@cache
def served_with(
    kind: str, client: int, message_type: str, scope: str, *, times: int = FOREVER, alternations: int = 0
) -> UnlearningResult:
    """What comes of a request of a scope where a client does one thing wrong, after two rounds without faults."""
    with TemporaryDirectory() as folder:
        trial = trained(Path(folder), plan=replace(PLAN, alternations=alternations))
        trial.do(kind, client, message_type, times)
        return trial.serve(SCOPES[scope])


@cache
def trained_with(kind: str, client: int, rounds: int, *, times: int = FOREVER) -> ArrayRecord:
    """The model after so many rounds in which a client does one thing wrong."""
    with TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        trial.do(kind, client, protocol.TRAIN, times)
        return trial.train(rounds).arrays


def length(first: Mapping[str, object] | ArrayRecord, second: Mapping[str, object] | ArrayRecord) -> float:
    """How far two models are apart, by hand."""
    models = [
        torch.cat([torch.as_tensor(_numpy(model[name])).double().flatten() for name in sorted(model)])
        for model in (first, second)
    ]
    return float((models[0] - models[1]).norm())


def _numpy(value: object) -> object:
    return value.numpy() if hasattr(value, "stype") else value  # type: ignore[attr-defined]
