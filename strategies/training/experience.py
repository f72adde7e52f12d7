"""One training experience: its rounds, and what is written down between them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.clients.bounds.faults import NO_ANSWER
from fed_unlearn.strategies.clients.messages.exchange import NobodyAnsweredError
from fed_unlearn.strategies.context import CallContext, Event, EventKind
from fed_unlearn.strategies.inner.known_models import known_models
from fed_unlearn.strategies.state import OpenTraining
from fed_unlearn.strategies.training.figures import TrainingFigures
from fed_unlearn.strategies.training.rounds import AskedRound
from fed_unlearn.strategies.training.trainer import EvaluateFunction, Trainer

_MOST_TOLD = 5


@dataclass
class TrainingExperience:
    """Trains the rounds of an experience, one after another; a crash loses no round that was written down.

    A round has two halves, :meth:`ask` and :meth:`take`, and its evaluation has two. Who calls them sends the messages.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    trainer : Trainer
        Runs the rounds.
    training : OpenTraining
        The experience, as far as it has come.
    evaluate_config : ConfigRecord
        Configuration of the clients' evaluation.
    evaluate_every : int
        Interval in rounds between evaluations by the inner strategy, which also evaluates after the last round.
    evaluate_fn : callable or None
        Centralised evaluation, as in Flower.
    unjudged : NobodyAnsweredError or None
        Why nobody has audited the model of the last round.
    """

    context: CallContext
    trainer: Trainer
    training: OpenTraining
    evaluate_config: ConfigRecord
    evaluate_every: int
    evaluate_fn: EvaluateFunction | None
    unjudged: NobodyAnsweredError | None = field(default=None, init=False)
    _asked: AskedRound | None = field(default=None, init=False)
    _asked_at: float = field(default=0.0, init=False)
    _packed: tuple[Arrays, ArrayRecord] | None = field(default=None, init=False)
    _written: float = field(default_factory=time.monotonic, init=False)
    _is_written: bool = field(default=True, init=False)
    _failed: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def has_rounds_left(self) -> bool:
        """Whether the experience is not at its end."""
        return self.training.done < self.training.rounds

    def failures(self) -> dict[str, str]:
        """By client, why it did not train, where all rounds are done and none of them had a client that did.

        Empty where nobody answered at all: the clients may come later.
        """
        figures = self.training.figures
        if self.has_rounds_left or figures.trained_clients or len(figures.clients) < self.training.rounds:
            return {}
        reasons = {client: reason for known in figures.clients.values() for client, reason in known.failed.items()}
        return reasons if set(reasons.values()) - {NO_ANSWER} else {}

    def start_again(self) -> None:
        """Go back before the first round: none has made anything of the model, and none counts for the next ones."""
        self.training.done, self.training.evaluated = 0, 0
        self.training.arrays, self.training.longest = None, 0.0
        self.training.figures, self.training.changed_configs = TrainingFigures(), {}
        self._failed.clear()

    @property
    def model(self) -> Arrays:
        """The model of the rounds so far; the served one where the gate has seen all of them."""
        return self.training.arrays if self.training.arrays is not None else self.context.served.arrays

    @property
    def record(self) -> ArrayRecord:
        """The same, as it goes over the wire."""
        if self._packed is None or self._packed[0] is not self.model:
            known_models(self.context.inner).note(self.model)
            self._packed = self.model, pack(self.model)
        return self._packed[1]

    @property
    def is_evaluated(self) -> bool:
        """Whether the clients evaluate the round that was done last."""
        done = self.training.done
        return not self.has_rounds_left or done % self.evaluate_every == 0

    @property
    def lacks_evaluation(self) -> bool:
        """Whether the round that was done last is one to evaluate, and the process ended before that was over."""
        return self.training.evaluated < self.training.done and self.is_evaluated

    def note_evaluation(self) -> None:
        """Record that the evaluation of the round that was done last is over."""
        self.training.evaluated = self.training.done

    def ask(self, config: ConfigRecord, grid: Grid) -> Sequence[Message]:
        """The messages of the next round.

        Parameters
        ----------
        config : ConfigRecord
            The inner strategy completes it in place.
        grid : Grid
            What the inner strategy samples from.
        """
        self._asked_at = time.perf_counter()
        self.context.grid.take_traffic()
        training = self.training
        training.note_config(training.done + 1, config)
        number = training.first + training.done + 1
        self._asked = self.trainer.ask(self.model, self.record, number, config, grid)
        return self._asked.messages

    def take(self, replies: Iterable[Message]) -> MetricRecord | None:
        """Make the model of the round that was asked for, and return what the inner strategy aggregated of metrics.

        Raises
        ------
        InvalidParameterError
            If no round was asked for.
        """
        asked, context, training = self._asked, self.context, self.training
        if asked is None:
            raise InvalidParameterError("replies were given to aggregate_train and no configure_train came before it")
        self._asked = self.unjudged = None
        number = training.done + 1
        outcome = self.trainer.take(
            asked, replies, usual_norm=context.served.update_norm, longest=training.longest, measure_norms=True
        )
        training.arrays, training.done, training.longest = outcome.arrays, number, outcome.longest
        training.rounds = max(training.rounds, number)
        context.served.train_config = ConfigRecord(dict(outcome.config))
        if outcome.update_norms:
            context.served.update_norm = median(outcome.update_norms)
        figures = training.figures
        figures.note_metrics(number, outcome.train_metrics, None, None)
        figures.note_clients(number, outcome.trained, outcome.failed)
        if outcome.failed != self._failed:
            self._failed = dict(outcome.failed)
            self.tell("clients-failed", f"round {number}: {_told(outcome.failed)}")
        self._note_cost()
        self.tell("training-round", f"round {number} of {training.rounds}")
        return outcome.train_metrics

    def ask_evaluation(self, record: ArrayRecord, config: ConfigRecord, grid: Grid) -> Sequence[Message]:
        """The messages that have clients evaluate a model; with them goes which classes are forgotten."""
        self._asked_at = time.perf_counter()
        self.context.grid.take_traffic()
        config["forgotten-classes"] = sorted(self.context.ledger.forgotten_classes())
        number = self.training.first + self.training.done
        return self.trainer.ask_evaluation(record, number, config, grid)

    def take_evaluation(self, replies: Iterable[Message]) -> MetricRecord | None:
        """What the inner strategy aggregates of the evaluations."""
        training = self.training
        metrics = self.trainer.take_evaluation(training.first + training.done, replies)
        training.figures.note_metrics(training.done, None, metrics, None)
        self._note_cost()
        return metrics

    def evaluate(self) -> None:
        """Evaluate the round that was done last, outside of ``start()``."""
        grid = self.trainer.grid
        messages = self.ask_evaluation(self.record, ConfigRecord(dict(self.evaluate_config)), grid)
        self.take_evaluation(grid.send_and_receive(messages, timeout=self.context.timeout))
        self.evaluate_centrally(self.training.done, self.record)

    def evaluate_centrally(self, number: int, arrays: ArrayRecord) -> MetricRecord | None:
        """What the user's own evaluation on the server gives.

        Parameters
        ----------
        number : int
            Number of the round, counted from the experience's first; 0 for the model before it.
        arrays : ArrayRecord
        """
        if self.evaluate_fn is None:
            return None
        started = time.perf_counter()
        metrics = self.evaluate_fn(number, arrays)
        self.training.figures.note_metrics(number, None, None, metrics)
        self.training.figures.seconds += time.perf_counter() - started
        self.training.figures.put_into(self.context.result)
        return metrics

    def _note_cost(self) -> None:
        figures = self.training.figures
        figures.seconds += time.perf_counter() - self._asked_at
        figures.traffic.add(self.context.grid.take_traffic())
        figures.put_into(self.context.result)
        self._is_written = False

    def keep(self) -> None:
        """Write down what was done since, where the last time was long ago."""
        if not self._is_written and time.monotonic() - self._written >= self.context.plan.durable_seconds:
            self.save()
            self.context.state.purge()
            self._written = time.monotonic()

    def resume(self) -> None:
        """Show in the result what an earlier process has done of the experience."""
        if self.training.done:
            self.training.figures.put_into(self.context.result)

    def save(self, *, finished: bool = False) -> None:
        """Write down how far the experience has come, and whether it has come to its end."""
        self.context.state.save_training(self.training, self.context.served)
        self._is_written = True
        if finished:
            self.context.state.finish_training(self.training)

    def tell(self, kind: EventKind, text: str) -> None:
        """Say what happens, to the observer."""
        self.context.notify(Event(kind, text, step=self.training.done, steps=self.training.rounds))


def _told(failed: Mapping[str, str]) -> str:
    """Which clients did not train, and why."""
    if not failed:
        return "all clients that were asked trained"
    told = "; ".join(f"client {client} did not train: {reason}" for client, reason in list(failed.items())[:_MOST_TOLD])
    return f"{told}; and {len(failed) - _MOST_TOLD} more" if len(failed) > _MOST_TOLD else told
