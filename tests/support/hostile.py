"""A federation of real clients, one of which lies: the whole app is honest, and what it answers is changed on its way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from federation import CLIENTS, DigitsTask, Federation, all_digits, make_app
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, to_state_dict, unpack
from fed_unlearn.simulations.inprocess import InProcessGrid

Honest = Callable[[], Message]
Lie = Callable[[Message, Context, Honest], Message]
"""What a client answers to a message; the last argument gives what it would have answered."""

Metrics = dict[str, int | float | list[int] | list[float]]

MODEL_MESSAGES = (protocol.TRAIN, protocol.REPAIR, protocol.UNLEARN)


@dataclass
class HostileApp:
    """A ClientApp some of whose clients lie.

    Attributes
    ----------
    app : ClientApp
        The honest app.
    lies : mapping of int to Lie
        By client.
    """

    app: ClientApp
    lies: Mapping[int, Lie]

    def __call__(self, message: Message, context: Context) -> Message:
        lie = self.lies.get(int(context.node_config["partition-id"]))
        if lie is None:
            return self.app(message, context)
        return lie(message, context, lambda: self.app(message, context))


def hostile_federation(
    folder: Path, lies: Mapping[int, Lie], *, clients: int = CLIENTS, task: DigitsTask | None = None
) -> Federation:
    """A federation like :func:`federation.make_federation`, some of whose clients lie."""
    task = task or DigitsTask()
    app = make_app(task)
    stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(clients)]
    grid = InProcessGrid(HostileApp(app, lies), clients, node_configs=stores)  # type: ignore[arg-type]
    return Federation(task, app, grid, folder)


def with_records(reply: Message, **records: ArrayRecord | MetricRecord) -> Message:
    """The reply with some of its records replaced."""
    changed = copy.copy(reply)
    changed.content = RecordDict({**reply.content, **records})
    return changed


def with_metrics(reply: Message, change: Callable[[Metrics], Metrics]) -> Message:
    """The reply with other metrics; as it is where it has none."""
    if not reply.has_content() or "metrics" not in reply.content:
        return reply
    return with_records(reply, metrics=MetricRecord(change(dict(reply.content["metrics"]))))  # type: ignore[arg-type]


def with_model(reply: Message, change: Callable[[Arrays], Arrays]) -> Message:
    """The reply with another model; as it is where it has none."""
    if not reply.has_content() or "arrays" not in reply.content.array_records:
        return reply
    return with_records(reply, arrays=pack(change(unpack(reply.content.array_records["arrays"]))))


def on_audits(change: Callable[[Metrics], Metrics]) -> Lie:
    """Other counts in every audit."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        return with_metrics(reply, change) if message.metadata.message_type == protocol.AUDIT else reply

    return lie


def on_models(change: Callable[[Arrays], Arrays], kinds: Collection[str] = MODEL_MESSAGES) -> Lie:
    """Another model in the replies to some messages; ``change`` is given the model that was sent."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        if message.metadata.message_type not in kinds or "arrays" not in message.content:
            return reply
        sent = unpack(message.content.array_records["arrays"])
        return with_model(reply, lambda _: change(sent))

    return lie


def both(first: Lie, second: Lie) -> Lie:
    """Two lies at once."""
    return lambda message, context, honest: second(message, context, lambda: first(message, context, honest))


def claims(right: bool, *, total: int | None = None, of_requests: bool = True) -> Callable[[Metrics], Metrics]:
    """Counts that call every answer right, or wrong; with ``total`` samples of each class, or as many as there are."""

    def change(metrics: Metrics) -> Metrics:
        changed = dict(metrics)
        for key, value in metrics.items():
            part, _, name = key.partition("/")
            if part == "target" and of_requests:
                if name.startswith("correct"):
                    changed[key] = 0
            elif name == "total" and isinstance(value, list):
                counts = [total] * len(value) if total is not None else [int(item) for item in value]
                changed[key] = counts
                changed[f"{part}/correct"] = list(counts) if right else [0] * len(counts)
        return changed

    return change


def accuracy(arrays: ArrayRecord | Arrays, *, only: Collection[int] = (), without: Collection[int] = ()) -> float:
    """Accuracy of a model of :func:`federation.small_model` on the test images of some classes, computed apart."""
    weights = to_state_dict(arrays if isinstance(arrays, ArrayRecord) else pack(arrays))
    test = all_digits().test
    images, labels = test.batch()
    hidden = torch.relu(images.flatten(1) @ weights["1.weight"].T + weights["1.bias"])
    answers = (hidden @ weights["3.weight"].T + weights["3.bias"]).argmax(1)
    chosen = np.array([(not only or label in only) and label not in without for label in labels.tolist()])
    return float((answers == labels).numpy()[chosen].mean())
