"""A federation whose every message goes over the wire: deflated, looked at as a SuperLink does, and inflated again."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from fault_trials import OPEN, PLAN
from federation import DigitsTask, digits_of, make_federation
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, validate_object_content
from torch import nn

from fed_unlearn.arrays import pack
from fed_unlearn.data.images import ClientData
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, UnlearningResult

CLIENTS = 3


def over_the_wire(content: RecordDict) -> RecordDict:
    """What arrives of a message's content; raises where a SuperLink would not take it."""
    contents = {name: item.deflate() for name, item in get_all_nested_objects(content).items()}
    for item in contents.values():
        validate_object_content(item)
    arrived = inflate_object_from_contents(content.object_id, contents)
    assert isinstance(arrived, RecordDict)
    return arrived


class WireGrid(InProcessGrid):
    """The in-process grid with a wire in it.

    Attributes
    ----------
    crossed : list of (Message, Message)
        Every message as it arrived at its client, and the reply as it arrived at the server.
    """

    def __init__(self, app: ClientApp, folder: Path, clients: int = CLIENTS) -> None:
        stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(clients)]
        super().__init__(app, clients, node_configs=stores)
        self.crossed: list[tuple[Message, Message]] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver what arrives, and return what arrives of the replies."""
        replies = []
        for message in messages:
            arrived = copy.copy(message)
            arrived.content = over_the_wire(message.content)
            [reply] = super().send_and_receive([arrived])
            assert reply.has_content(), reply.error.reason
            reply.content = over_the_wire(reply.content)
            self.crossed.append((arrived, reply))
            replies.append(reply)
        return replies


def linear_model() -> nn.Module:
    """A small one with BatchNorm, whose buffers unlearning leaves as they are; always with the same weights."""
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))


def third_of_digits(client: int) -> ClientData:
    """What each client holds."""
    return digits_of(client, CLIENTS, 180)


def wired(folder: Path) -> tuple[ContinualUnlearning, WireGrid, InProcessGrid]:
    """A strategy, a grid with a wire, and one without over clients of their own."""
    task = DigitsTask(data_of=third_of_digits, model_of=linear_model)
    federation = make_federation(folder / "plain", clients=CLIENTS, task=task)
    federation.app.evaluate()(_evaluate)
    plan = replace(PLAN, repair_rounds=1)
    strategy = federation.strategy(FedAvg(fraction_evaluate=1.0), gate=OPEN, plan=plan)
    return strategy, WireGrid(federation.app, folder / "wired"), federation.grid


def first_model() -> ArrayRecord:
    """The weights to start from."""
    return pack(linear_model().state_dict())


def life(strategy: ContinualUnlearning, grid: InProcessGrid) -> UnlearningResult:
    """Training, requests of every scope, and one for samples that nobody has."""
    strategy.start(grid, first_model(), num_rounds=2)
    for request in (
        ForgetRequest.for_class(3),
        ForgetRequest.for_samples(1, count=2),
        ForgetRequest.for_samples(1, ["nobody has it"]),
        ForgetRequest.for_client(2, method="fedosd"),
    ):
        strategy.submit(request)
    return strategy.start(grid, num_rounds=0)


def _evaluate(message: Message, context: Context) -> Message:
    metrics = MetricRecord({"num-examples": 10, "loss": float(torch.tensor(0.5))})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
