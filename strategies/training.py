"""Ordinary training rounds, run through the hooks of the inner Flower strategy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.aggregation import all_finite, difference, norm, with_dtypes_of
from fed_unlearn.strategies.grid import EligibleGrid
from fed_unlearn.strategies.inner import minima_within, reset_server_state, seeded_sampling

logger = logging.getLogger("fed_unlearn.strategies")

EvaluateFunction = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True)
class TrainingRound:
    """What one round gave.

    Attributes
    ----------
    arrays : dict of ndarray
        The aggregated model; the round's start where nothing usable came back.
    config : ConfigRecord
        As the inner strategy completed it.
    train_metrics, evaluate_metrics : MetricRecord or None
        As the inner strategy aggregated them.
    update_norms : tuple of float
        How far each client moved; empty unless asked for.
    """

    arrays: Arrays
    config: ConfigRecord
    train_metrics: MetricRecord | None
    evaluate_metrics: MetricRecord | None
    update_norms: tuple[float, ...]


@dataclass(frozen=True)
class Trainer:
    """Runs rounds of an inner strategy over eligible clients.

    Attributes
    ----------
    inner : Strategy
    grid : EligibleGrid
    timeout : float
        Seconds that each exchange waits for answers.
    seed : int
        Of the inner strategy's sampling of clients.
    """

    inner: Strategy
    grid: EligibleGrid
    timeout: float
    seed: int

    def train(
        self,
        arrays: Arrays,
        number: int,
        train_config: ConfigRecord,
        *,
        evaluate_config: ConfigRecord | None = None,
        measure_norms: bool = False,
    ) -> TrainingRound:
        """One round.

        Parameters
        ----------
        arrays : dict of ndarray
            The model that the round starts from.
        number : int
            Running number over all experiences, from 1: clients derive their seeds from it.
        train_config : ConfigRecord
        evaluate_config : ConfigRecord, optional
            Evaluate the result through the inner strategy, with this configuration.
        measure_norms : bool
            Whether the clients' update norms are wanted.
        """
        config = ConfigRecord(dict(train_config))
        record = pack(arrays)
        with self._sampling("train-sample", number):
            messages = list(self.inner.configure_train(number, record, config, self.grid))
        replies = [
            reply
            for reply in self.grid.send_and_receive(messages, timeout=self.timeout)
            if reply.has_error() or protocol.read_metric(reply, self._weight_key()) > 0
        ]
        aggregated, train_metrics = self.inner.aggregate_train(number, replies)
        norms = tuple(self._update_norms(arrays, replies)) if measure_norms else ()
        trained = arrays
        if aggregated is None:
            logger.warning("training round %d: no usable reply; the model stays as it was", number)
        else:
            candidate = with_dtypes_of(unpack(aggregated), arrays)
            if all_finite(candidate):
                trained = candidate
            else:
                logger.warning("training round %d: the aggregate is not finite; the model stays as it was", number)
                reset_server_state(self.inner)
        evaluated = self._evaluate(trained, number, evaluate_config) if evaluate_config is not None else None
        return TrainingRound(trained, config, train_metrics, evaluated, norms)

    def _evaluate(self, arrays: Arrays, number: int, evaluate_config: ConfigRecord) -> MetricRecord | None:
        config = ConfigRecord(dict(evaluate_config))
        with self._sampling("evaluate-sample", number):
            messages = list(self.inner.configure_evaluate(number, pack(arrays), config, self.grid))
        if not messages:
            return None
        return self.inner.aggregate_evaluate(number, self.grid.send_and_receive(messages, timeout=self.timeout))

    @contextmanager
    def _sampling(self, purpose: str, number: int) -> Iterator[None]:
        available = len(list(self.grid.get_node_ids()))
        with minima_within(self.inner, available), seeded_sampling(derive_seed(self.seed, purpose, number)):
            yield

    def _weight_key(self) -> str:
        return str(getattr(self.inner, "weighted_by_key", protocol.WEIGHT))

    @staticmethod
    def _update_norms(base: Arrays, replies: list[Message]) -> Iterator[float]:
        for reply in replies:
            if reply.has_content():
                for record in reply.content.array_records.values():
                    yield norm(difference(unpack(record), base))
