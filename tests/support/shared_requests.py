"""What tests of requests that are served together look at: messages by type, orders at the holders, sums by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from fault_trials import Trial
from faulty_grid import Change
from flwr.app import Array, ArrayRecord, Message
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningResult

AT_1, AT_1_TOO, AT_2 = (
    ForgetRequest.for_samples(1, count=1, id="a"),
    ForgetRequest.for_samples(1, count=2, id="b"),
    ForgetRequest.for_samples(2, count=2, id="c"),
)
"""Three requests that are served alike, two of them at one client."""


def asked(trial: Trial) -> Counter[str]:
    """Messages sent since this was last asked, by type."""
    counted = Counter(message_type for _, message_type in trial.grid.sent)
    trial.grid.sent.clear()
    return counted


def steps_of(trial: Trial) -> list[str]:
    """A list that fills with what the strategy says that it does."""
    told: list[str] = []
    trial.strategy.observer = lambda event: told.append(event.text)
    return told


def statuses(trial: Trial) -> dict[str, str]:
    """Where every request stands."""
    return {entry.id: str(entry.status) for entry in trial.strategy.ledger.entries()}


def attempts(trial: Trial) -> dict[str, int]:
    """Attempts made at every request."""
    return {entry.id: entry.attempt for entry in trial.strategy.ledger.entries()}


def committed(result: UnlearningResult) -> list[str]:
    """Ids of the requests that were committed, in the order in which they were."""
    return [outcome.request.id for outcome in result.requests if outcome.status is Status.COMMITTED]


@contextmanager
def second_ledger(trial: Trial) -> Iterator[Ledger]:
    """The ledger as another process has it open."""
    ledger = Ledger(trial.strategy.ledger.path)
    try:
        yield ledger
    finally:
        ledger.close()


def clipped_sum(
    base: Arrays, models: Mapping[int, Arrays], bounds: Mapping[int, float]
) -> dict[str, NDArray[np.float64]]:
    """``base`` and every change from it, scaled down to its bound, in float64."""
    summed = {name: value.astype(np.float64) for name, value in base.items()}
    for client, model in models.items():
        change = {name: model[name].astype(np.float64) - base[name] for name in base}
        length = np.sqrt(sum(float((value**2).sum()) for value in change.values()))
        for name, value in change.items():
            summed[name] += min(1.0, bounds[client] / length) * value
    return summed


def instead(arrays: Arrays) -> Change:
    """Answer with a given model."""

    def changed(reply: Message) -> None:
        reply.content["arrays"] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    return changed


def shifted(name: str, index: int, by: float) -> Change:
    """Add to one number of one array of the answered model."""

    def changed(reply: Message) -> None:
        record = reply.content.array_records["arrays"]
        value = record[name].numpy().copy()
        value[index] += by
        reply.content["arrays"] = ArrayRecord({**record, name: Array(value)})

    return changed


def validation_accuracy(trial: Trial, arrays: Arrays) -> float:
    """Of a model on all clients' validation samples, computed here."""
    model = trial.federation.task.model_of()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    hits = total = 0
    for client in range(4):
        samples = trial.data_of(client).validation
        with torch.no_grad():
            hits += int((model(samples.batch()[0]).argmax(1) == samples.labels).sum())
        total += len(samples)
    return hits / total
