"""What strategies of the user's own keep in memory, in a real federation: at commits, rollbacks and restarts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation import CLOSED_GATE, Federation, initial_arrays, make_federation, same_bytes
from flwr.app import ArrayRecord, ConfigRecord
from own_start import KeepingAggregates, KeepingBest, accuracy, central_accuracy

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Event, UnlearningResult

FORGOTTEN = 3
ROUNDS = 2
NAMES = ("best", "ranking", "record")


class Watched:
    """A federation that is asked to forget a class in a round, and what its strategy kept when the request began."""

    def __init__(self, folder: Path, inner: Any, asked_in: int, **settings: float) -> None:
        self.federation: Federation = make_federation(folder)
        self.inner, self.asked_in, self.settings = inner, asked_in, settings
        gate = CLOSED_GATE if settings else None
        self.strategy: ContinualUnlearning = self.federation.strategy(inner, gate=gate)
        self.strategy.observer = self._observe
        self.before: dict[str, Any] = {}
        self.objects: dict[str, Any] = {}
        self.recognised: list[float] = []

    def _observe(self, event: Event) -> None:
        if event.kind == "training-round" and event.step == self.asked_in:
            self.strategy.submit(ForgetRequest.for_class(FORGOTTEN, method="boundary-shrink", **self.settings))
        if event.kind == "request-started" and self.asked_in and not self.before:
            self.objects = {name: getattr(self.inner, name) for name in (*NAMES, "accuracies")}
            self.before = copy.deepcopy(self.objects)
            self.recognised = [accuracy(model, {FORGOTTEN}) for model in self.inner.kept()]

    def start(self, rounds: int) -> UnlearningResult:
        return self.strategy.start(
            self.federation.grid,
            initial_arrays(),
            rounds,
            train_config=ConfigRecord({"learning-rate": 0.1}),
            evaluate_fn=central_accuracy,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path


MAKE: dict[str, Callable[[Path], Any]] = {
    "own start": lambda folder: KeepingBest(folder / "app", decay_at=0),
    "Flower's start": lambda folder: KeepingAggregates(),
}


@pytest.mark.parametrize("name", MAKE)
def test_kept_models_do_not_recognise_a_forgotten_class_and_their_record_is_there(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    inner = MAKE[name](folder)
    watched = Watched(folder, inner, asked_in=3)
    with caplog.at_level(logging.INFO, logger="fed_unlearn.strategies"):
        [outcome] = watched.start(3).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert max(watched.recognised) > 0.5
    assert [accuracy(model, {FORGOTTEN}) <= 0.1 for model in inner.kept()] == [True] * len(inner.kept())
    assert all(accuracy(model) > 0.5 for model in inner.kept()), "they are models still"
    said = [record.getMessage() for record in caplog.records]
    for attribute in NAMES:
        assert f"{type(inner).__name__}.{attribute} was replaced by the model that serves" in said
    numbers = watched.before["accuracies"]
    assert len(numbers) >= 2 and inner.accuracies[: len(numbers)] == numbers
    assert all(type(number) is np.float64 for number in inner.accuracies)


class Repairing(KeepingAggregates):
    """Makes repair rounds, too, so that attempts change what it keeps."""

    aggregates_repair = True


@pytest.mark.parametrize("name", [*MAKE, "repairing"])
def test_a_request_that_fails_leaves_what_is_kept_as_it_was(folder: Path, name: str) -> None:
    inner = {**MAKE, "repairing": lambda folder: Repairing()}[name](folder)
    watched = Watched(folder, inner, asked_in=ROUNDS, epochs=1, learning_rate=1e-9)
    [outcome] = watched.start(ROUNDS).requests
    assert outcome.status is Status.FAILED
    for attribute, kept in watched.objects.items():
        if name != "own start" or attribute == "accuracies":  # start() goes on, and keeps the last round's model
            assert getattr(inner, attribute) is kept, attribute
    count = len(watched.before["accuracies"])
    assert inner.accuracies[:count] == watched.before["accuracies"]
    assert len(inner.accuracies) == ROUNDS
    ranked = [watched.before["ranking"][key][1] for key in range(len(watched.before["ranking"]))]
    for before, now in zip(ranked, inner.kept()[1:], strict=False):
        assert same_bytes(ArrayRecord(before), now)


def test_a_kept_record_is_replaced_at_a_commit_of_a_later_process(folder: Path) -> None:
    first = Watched(folder, MAKE["own start"](folder), asked_in=0)
    first.start(2)
    assert accuracy(first.inner.record, {FORGOTTEN}) > 0.5
    first.strategy.ledger.close()
    later = Watched(folder, MAKE["own start"](folder), asked_in=0)
    later.strategy.submit(ForgetRequest.for_class(FORGOTTEN))
    [outcome] = later.strategy.start(later.federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED, outcome.reason
    assert later.strategy.served is not None
    assert {name: value.numpy().tobytes() for name, value in later.inner.record.items()} == {
        name: value.tobytes() for name, value in later.strategy.served.arrays.items()
    }
    assert accuracy(later.inner.record, {FORGOTTEN}) <= 0.1
    assert later.inner.accuracies == first.inner.accuracies
    assert later.inner.best_accuracy == first.inner.best_accuracy
