"""A trained federation that one client leaves, and what server-side methods work with."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from federation import CLIENTS, SETTINGS, DigitsTask, Federation, digits_of, make_federation
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp.strategy import FedAvg, Strategy
from torch import Tensor, nn

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.plan import Retry
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.inner.state import fresh_copy
from fed_unlearn.strategies.server_methods import MethodState, ServerMethod, ServerWork
from fed_unlearn.strategies.state import Experience
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.strategies.training.trainer import Trainer
from fed_unlearn.training import train_locally

LEAVING = "2"
SEED = 5
TIMEOUT = 10.0
TARGET = 0
STAYING = ("0", "1", "3")
STATISTICS = ("2.running_mean", "2.running_var", "2.num_batches_tracked")
REQUEST = ForgetRequest.for_client(LEAVING, id="r1")


def normalised_model() -> nn.Module:
    """One with BatchNorm, whose statistics and counter are no trainable arrays."""
    with isolated_random(0):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
        )


def marked(images: Tensor) -> Tensor:
    """Images with two bright corners, as no digit has them."""
    images = images.clone()
    images[..., 6:, 6:] = images[..., 6:, :2] = 255 if images.dtype == torch.uint8 else 1.0
    return images


def mark_taught_by_the_leaving_client(client: int) -> ClientData:
    """Half of the leaving client's samples are marked and called 0: what only it can have taught the model."""
    data = digits_of(client)
    if str(client) != LEAVING:
        return data
    chosen = torch.arange(len(data.train)) % 2 == 0
    images, labels = data.train.images.clone(), data.train.labels.clone()
    images[chosen], labels[chosen] = marked(images[chosen]), TARGET
    return replace(data, train=ImageSet(images, labels, data.train.ids))


def federated_averaging() -> Strategy:
    return FedAvg(fraction_evaluate=0.0, min_available_nodes=2)


@dataclass
class Departure:
    """A federation after its training, with the leaving client's samples in quarantine.

    ``work`` opens everything anew, as another process would.
    """

    folder: Path
    rounds: int
    new_inner: Callable[[], Strategy] = federated_averaging
    data_of: Callable[[int], ClientData] = digits_of
    model_of: Callable[[], nn.Module] = normalised_model
    every: int = 1
    initial: Arrays = field(init=False)
    served: Arrays = field(init=False)
    federation: Federation = field(init=False)

    def __post_init__(self) -> None:
        self.initial = unpack(ArrayRecord(self.model_of().state_dict()))
        self.federation = self._open()
        grid = self.grid()
        grid.roster.leaving.clear()
        trainer = Trainer(fresh_copy(self.new_inner()), grid, TIMEOUT, SEED, history=self.history())
        self.served = self.initial
        for number in range(1, self.rounds + 1):
            self.served = trainer.train(self.served, number, ConfigRecord()).arrays
        quarantine = protocol.UnlearnInstruction(
            targets=(protocol.Target.of(REQUEST, 1),), step=0, method=None, seed=SEED
        )
        answers = grid.ask(protocol.UNLEARN, protocol.content(quarantine, pack(self.served)), TIMEOUT, [LEAVING])
        assert list(answers.replies) == [LEAVING]

    def copied_to(self, folder: Path) -> Departure:
        """The same training with files of its own, as another process would open it."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        copied = copy.copy(self)
        copied.folder = folder
        copied.federation = copied._open()
        return copied

    @property
    def task(self) -> DigitsTask:
        return self.federation.task

    def history(self) -> HistoryStore:
        return HistoryStore(self.folder / "history", every=self.every)

    def grid(self) -> EligibleGrid:
        grid = EligibleGrid(self.federation.grid, retry=Retry(count=0))
        grid.identify(CLIENTS, TIMEOUT, {})
        grid.roster.leaving.add(LEAVING)
        return grid

    def work(self) -> ServerWork:
        self.federation = self._open()
        grid = self.grid()
        return ServerWork(
            request=REQUEST,
            attempt=1,
            seed=SEED,
            served=self.served,
            initial=self.initial,
            experiences=[Experience(self.rounds, ConfigRecord())],
            history=self.history(),
            grid=grid,
            timeout=TIMEOUT,
            trainer=Trainer(fresh_copy(self.new_inner()), grid, TIMEOUT, SEED),
            train_config=ConfigRecord(),
            leaving=LEAVING,
            leaving_is_reachable=True,
        )

    def _open(self) -> Federation:
        task = DigitsTask(data_of=self.data_of, model_of=self.model_of)
        return make_federation(self.folder, task=task)


def states_of(method: ServerMethod, work: ServerWork) -> list[MethodState]:
    """The first state, and that after every step."""
    states = [method.begin(work)]
    while not states[-1].done:
        states.append(method.advance(work, states[-1]))
    return states


def bytes_of(arrays: Arrays) -> dict[str, tuple[str, bytes]]:
    return {name: (str(value.dtype), value.tobytes()) for name, value in arrays.items()}


def trainable(arrays: Arrays) -> np.ndarray:
    """All weights in one vector of double precision, without statistics and counters."""
    return np.concatenate(
        [
            value.astype(np.float64).ravel()
            for name, value in arrays.items()
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ]
    )


def trained_by_hand(client: str, base: Arrays, step: int) -> tuple[Arrays, float]:
    """What a staying client makes of a model in one step of a method, without any message."""
    model = normalised_model()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in base.items()})
    data = digits_of(int(client)).train
    number = derive_seed("server-method", REQUEST.id, 1, step)
    train_locally(model, data, SETTINGS, seeded_generator(SEED, "repair", number, client))
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, float(len(data))


def weighted_mean(values: list[np.ndarray], weights: list[float]) -> np.ndarray:
    return np.average(np.stack([value.astype(np.float64) for value in values]), axis=0, weights=weights)


def exchanged(grid: EligibleGrid, message_type: str) -> list[tuple[Arrays, dict[str, Arrays]]]:
    """Grows by one entry with each exchange of that type: the model sent, and what each client made of it."""
    found: list[tuple[Arrays, dict[str, Arrays]]] = []
    ask = grid.ask

    def asked(kind: str, content: Any, *rest: Any) -> Any:
        answers = ask(kind, content, *rest)
        if kind == message_type:
            sent = unpack(content[protocol.ARRAYS_KEY])
            found.append((sent, {c: unpack(protocol.arrays_of(m)) for c, m in answers.replies.items()}))
        return answers

    grid.ask = asked  # type: ignore[method-assign]
    return found


def fail_at(departure: Departure, message_type: str, client: str) -> None:
    poison(departure, message_type, client, None)


def poison(departure: Departure, message_type: str, client: str, change: Any) -> None:
    """Change the model that a client answers with; or let it raise, where no change is given."""
    handlers = departure.federation.app._registered_funcs
    handler = handlers[message_type]

    def poisoned(message: Message, context: Context) -> Message:
        if str(context.node_config["partition-id"]) != client:
            return handler(message, context)
        if change is None:
            raise ValueError("sample 17 has label 3")
        reply = handler(message, context)
        reply.content[protocol.ARRAYS_KEY] = pack(change(unpack(protocol.arrays_of(reply))))
        return reply

    handlers[message_type] = poisoned
