"""A strategy with a ``start()`` of its own, in the shape that Flower's guide shows: checkpoints, results, a tracker.

``python own_start.py FOLDER`` trains five rounds with one, and is killed by itself after the third.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from federation import FAST_PLAN, initial_arrays, make_federation, small_model
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from fed_unlearn.data.sources import load_source
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Event, UnlearningResult

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]


def accuracy(arrays: ArrayRecord, classes: set[int] | None = None) -> float:
    """Accuracy of a model on the test digits, or on those of some classes."""
    model = small_model()
    model.load_state_dict(arrays.to_torch_state_dict())
    test = load_source("digits").test
    images, labels = (test if classes is None else test.of_classes(classes)).batch()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def central_accuracy(number: int, arrays: ArrayRecord) -> MetricRecord:
    """A server's own evaluation."""
    return MetricRecord({"accuracy": accuracy(arrays)})


class Tracking(FedAvg):
    """FedAvg whose ``start()`` keeps the best models, writes ``results.json`` and logs to a tracker.

    Parameters
    ----------
    folder : Path
        Where it writes.
    decay_at : int
        The learning rate is halved in this round, for good.
    **settings
        FedAvg's.
    """

    def __init__(self, folder: Path, decay_at: int = 2, **settings: float) -> None:
        super().__init__(**{"min_available_nodes": 2, "fraction_evaluate": 0.0, **settings})  # type: ignore[arg-type]
        self.folder = folder
        self.decay_at = decay_at
        self.tracked: list[tuple[int, dict[str, object]]] = []
        self.given: list[dict[str, object]] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if server_round == self.decay_at:
            config["learning-rate"] = float(str(config["learning-rate"])) / 2
        messages = super().configure_train(server_round, arrays, config, grid)
        self.given.append(dict(config))
        return messages

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
    ) -> Result:
        self.best_accuracy, self.run_name = 0.0, "run-1"
        self.best_model = initial_arrays
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        arrays, result = initial_arrays, Result()
        for number in range(1, num_rounds + 1):
            self.before_round(number, train_config)
            replies = grid.send_and_receive(self.configure_train(number, arrays, train_config, grid), timeout=timeout)
            aggregated, metrics = self.aggregate_train(number, replies)
            if aggregated is not None:
                result.arrays = arrays = aggregated
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics
                self.tracked.append((number, dict(metrics)))
            evaluated = grid.send_and_receive(
                self.configure_evaluate(number, arrays, evaluate_config, grid), timeout=timeout
            )
            metrics = self.aggregate_evaluate(number, evaluated)
            if metrics is not None:
                result.evaluate_metrics_clientapp[number] = metrics
            if evaluate_fn and (known := evaluate_fn(number, arrays)) is not None:
                result.evaluate_metrics_serverapp[number] = known
                self.keep_best(number, float(str(known["accuracy"])), arrays)
            self.write_results(number, result)
            arrays = self.after_round(number, arrays)
            if self.is_done(number):
                break
        (self.folder / "final.bin").write_bytes(_bytes_of(arrays))
        return result

    def before_round(self, number: int, config: ConfigRecord) -> None:
        """What a user's own does before a round."""

    def after_round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        """What a user's own makes of the model after a round."""
        return arrays

    def is_done(self, number: int) -> bool:
        """Whether a user's own stops early."""
        return False

    def keep_best(self, number: int, now: float, arrays: ArrayRecord) -> None:
        """Save a checkpoint where the accuracy is the best so far."""
        if now > self.best_accuracy:
            self.best_accuracy, self.best_model = now, arrays
            (self.folder / f"best-{number}.bin").write_bytes(_bytes_of(arrays))

    def write_results(self, number: int, result: Result) -> None:
        """Add a round to ``results.json``."""
        path = self.folder / "results.json"
        rounds = json.loads(path.read_text()) if path.exists() else []
        evaluated = dict(result.evaluate_metrics_serverapp.get(number, {}))
        rounds.append({"round": number, "server": evaluated})
        path.write_text(json.dumps(rounds))


def _bytes_of(arrays: ArrayRecord) -> bytes:
    buffer = io.BytesIO()
    torch.save(arrays.to_torch_state_dict(), buffer)
    return buffer.getvalue()


def saved_model(path: Path) -> ArrayRecord:
    """A model that ``start()`` has saved."""
    return ArrayRecord(torch.load(io.BytesIO(path.read_bytes()), weights_only=True))


class KeepingBest(Tracking):
    """Keeps its best models in memory, in several forms, and the accuracy of every round."""

    def start(self, *given: Any, **named: Any) -> Result:
        self.accuracies: list[np.floating[Any]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.ranking: list[tuple[float, dict[str, torch.Tensor]]] = []
        self.record = ArrayRecord()
        return super().start(*given, **named)

    def keep_best(self, number: int, now: float, arrays: ArrayRecord) -> None:
        super().keep_best(number, now, arrays)
        self.accuracies.append(np.float64(now))
        self.best = arrays.to_torch_state_dict()
        self.ranking.append((now, arrays.to_torch_state_dict()))
        self.record = arrays

    def kept(self) -> list[ArrayRecord]:
        """Every model that it keeps."""
        return [ArrayRecord(self.best), *(ArrayRecord(state) for _, state in self.ranking), self.record]


class KeepingAggregates(FedAvg):
    """Has Flower's ``start()``, and keeps what each of its rounds made, and the metrics of each."""

    aggregates_repair = False

    def __init__(self) -> None:
        super().__init__(min_available_nodes=2, fraction_evaluate=0.0)
        self.best: dict[str, torch.Tensor] | None = None
        self.ranking: dict[int, tuple[int, dict[str, torch.Tensor]]] = {}
        self.record: ArrayRecord | None = None
        self.accuracies: list[np.floating[Any]] = []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        aggregated, metrics = super().aggregate_train(server_round, replies)
        if aggregated is not None:
            self.best = aggregated.to_torch_state_dict()
            self.ranking[len(self.ranking)] = server_round, aggregated.to_torch_state_dict()
            self.record = aggregated
            self.accuracies.append(np.float64(accuracy(aggregated)))
        return aggregated, metrics

    def kept(self) -> list[ArrayRecord]:
        """Every model that it keeps."""
        assert self.best is not None and self.record is not None
        return [ArrayRecord(self.best), *(ArrayRecord(state) for _, state in self.ranking.values()), self.record]


class Killed(Tracking):
    """May end its process after the third round, as a power cut would."""

    is_killed = False

    def after_round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        if self.is_killed and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return arrays


def five_rounds(folder: Path, inner: Tracking) -> tuple[ContinualUnlearning, UnlearningResult]:
    """Train until five rounds are done; a class is asked to be forgotten in the second."""
    federation = make_federation(folder)
    plan = replace(FAST_PLAN, durable_seconds=0.0)

    def ask(event: Event) -> None:
        if event.kind == "training-round" and event.step == 2 and not strategy.ledger.entries():
            strategy.submit(ForgetRequest.for_class(3))

    strategy = ContinualUnlearning(inner, ledger=folder / "server" / "ledger.db", plan=plan, observer=ask)
    config = ConfigRecord({"learning-rate": 0.1})
    return strategy, strategy.start(federation.grid, initial_arrays(), total_rounds=5, train_config=config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    killed = Killed(Path(sys.argv[1]) / "app")
    killed.is_killed = True
    five_rounds(Path(sys.argv[1]), killed)
