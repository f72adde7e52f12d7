"""The hooks and the grid that the wrapped strategy's ``start()`` works with: its rounds are those of an experience."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, same_bits, unpack
from fed_unlearn.errors import FedUnlearnError, InvalidModelError
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.clients.messages.runtime import RuntimeGrid
from fed_unlearn.strategies.inner.own_start import run_start
from fed_unlearn.strategies.training.experience import TrainingExperience

logger = logging.getLogger("fed_unlearn.strategies")

T = TypeVar("T")


class TrainingStopped(BaseException):
    """The training stays open; it passes through a ``start()`` of the user's own as an interrupt does."""


class StartGrid(RuntimeGrid):
    """The Grid that a ``start()`` is given: eligible clients only, whose replies are checked.

    Parameters
    ----------
    grid : EligibleGrid
        Grid over the clients.
    step : callable
        Called for every exchange. It remembers what the exchange raises.

    Attributes
    ----------
    is_open : bool
        Whether a round was configured and waits for replies.
    heard : set of int
        Nodes whose replies have passed since it was.
    """

    def __init__(self, grid: EligibleGrid, step: Callable[[Callable[[], list[Message]]], list[Message]]) -> None:
        super().__init__(grid)
        self._step = step
        self.is_open = False
        self.heard: set[int] = set()

    def open_round(self) -> None:
        """Let the messages of a round pass."""
        self.is_open = True
        self.heard.clear()

    def get_node_ids(self) -> Iterable[int]:
        """Eligible nodes, sorted by client."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Information on eligible nodes."""
        return self._grid.get_nodes()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages; replies come sorted by client, without those that must not be used.

        Raises
        ------
        FedUnlearnError
            If they train, and no hook has configured the round.
        """
        sent = list(messages)

        def exchange() -> list[Message]:
            if not self.is_open and any(message.metadata.message_type == protocol.TRAIN for message in sent):
                raise FedUnlearnError(
                    "start() sends training messages that self.configure_train did not make; call the hook, so that"
                    " clients that leave are not asked"
                )
            return list(self._grid.send_and_receive(sent, timeout=timeout))

        replies = self._step(exchange)
        self.heard |= {reply.metadata.src_node_id for reply in replies}
        return replies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refused, since answers that are pulled are not checked.

        Raises
        ------
        FedUnlearnError
            Always.
        """
        raise FedUnlearnError("start() pushes messages, whose answers cannot be checked; use grid.send_and_receive")


@dataclass
class DrivenStart:
    """Hooks that train an experience, and let requests be served between its rounds.

    What a hook raises ends the call, whatever ``start()`` makes of it.

    Attributes
    ----------
    experience : TrainingExperience
        The experience that is trained.
    before_round, after_round : callable
        Called before a round is configured, and once its model is made.
    """

    experience: TrainingExperience
    before_round: Callable[[], None]
    after_round: Callable[[], None]
    _first: int = field(default=0, init=False)
    _raised: BaseException | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._grid = StartGrid(self.experience.context.grid, self._step)
        self._given = self.experience.record

    def run(self, timeout: float) -> object:
        """Run the wrapped strategy's ``start()`` for the rounds that are left, and return what it returns.

        Parameters
        ----------
        timeout : float
            Seconds that each exchange waits for answers.

        Raises
        ------
        TrainingStopped
            If the experience stays open.
        """
        experience, training = self.experience, self.experience.training
        self._first = training.done
        known = experience.context.served.train_config if training.done else training.config
        try:
            returned = run_start(
                experience.context.inner,
                self,
                {
                    "grid": self._grid,
                    "initial_arrays": self._given,
                    "num_rounds": training.rounds - training.done,
                    "timeout": timeout,
                    "train_config": ConfigRecord(dict(known)),
                    "evaluate_config": ConfigRecord(dict(experience.evaluate_config)),
                    "evaluate_fn": None if experience.evaluate_fn is None else self._evaluate_centrally,
                },
            )
        except BaseException as error:
            if self._raised is None or self._raised is error:
                raise
            raise self._raised from error
        if self._raised is not None:
            raise self._raised
        return returned

    # ------------------------------------------------------------------ Flower's hooks

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Serve what came since the last round, and have the strategy choose who trains."""

        def ask() -> Iterable[Message]:
            if (made := self._made_by_start(arrays)) is not None:
                self.experience.training.arrays = made
            self.before_round()
            self._grid.open_round()
            return self.experience.ask(config, self._checked(grid))

        return self._step(ask)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Make the round's model, and serve what waits; the arrays are the model after that."""

        def take() -> tuple[ArrayRecord | None, MetricRecord | None]:
            metrics = self.experience.take(self._heard(replies))
            self._grid.is_open = False
            self.after_round()
            given, self._given = self._given, self.experience.record
            return None if self._given is given else self._given, metrics

        return self._step(take)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Have the strategy choose who evaluates, in the rounds that are evaluated."""
        if not self.experience.is_evaluated:
            return []

        def ask() -> Iterable[Message]:
            record = self.experience.record if self._made_by_start(arrays) is None else arrays
            return self.experience.ask_evaluation(record, config, self._checked(grid))

        return self._step(ask)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the strategy makes of the evaluations."""
        if not self.experience.is_evaluated:
            return None
        return self._step(lambda: self.experience.take_evaluation(replies))

    def _evaluate_centrally(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        return self.experience.evaluate_centrally(self._first + server_round, arrays)

    # ------------------------------------------------------------------ what may go wrong

    def _step(self, step: Callable[[], T]) -> T:
        """Take a step of a hook; once one has raised, every later one raises the same."""
        if self._raised is not None:
            raise self._raised
        try:
            return step()
        except BaseException as error:
            self._raised = error
            raise

    def _made_by_start(self, arrays: ArrayRecord) -> Arrays | None:
        """The model that a ``start()`` made by itself; None where it is the library's, or must not be used.

        Raises
        ------
        InvalidModelError
            If the arrays are those of another model.
        """
        experience = self.experience
        if arrays is self._given:
            return None
        given = unpack(arrays)
        if same_bits(given, experience.model):
            return None
        inner = type(experience.context.inner).__name__
        shapes = {name: (value.shape, value.dtype) for name, value in experience.model.items()}
        if {name: (value.shape, value.dtype) for name, value in given.items()} != shapes:
            raise InvalidModelError(
                f"start() of {inner} gave a hook {len(given)} arrays that are not those of the model; expected what"
                " aggregate_train returned, or arrays of the same names, shapes and dtypes"
            )
        if experience.context.ledger.committed():
            logger.warning(
                "start() of %s gave another model than aggregate_train returned; it may carry what was forgotten, and"
                " the library's own is used",
                inner,
            )
            return None
        return {name: given[name] for name in experience.model}

    def _checked(self, grid: Grid) -> Grid:
        """The Grid that clients are sampled from.

        Raises
        ------
        FedUnlearnError
            If it has nodes that must not be asked.
        """
        clients = self.experience.trainer.grid
        if grid is self._grid:
            return clients
        if set(grid.get_node_ids()) <= set(clients.get_node_ids()):
            return grid
        raise FedUnlearnError("start() gave a hook a grid with nodes that must not be asked; give it that of start()")

    def _heard(self, replies: Iterable[Message]) -> list[Message]:
        """The replies that came through the Grid that ``start()`` was given; others were not checked."""
        given = list(replies)
        heard = [reply for reply in given if reply.metadata.src_node_id in self._grid.heard]
        if len(heard) < len(given):
            logger.warning(
                "start() gave aggregate_train %d replies that did not come through its grid; they are left out",
                len(given) - len(heard),
            )
        return heard
