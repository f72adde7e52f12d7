"""One training experience: its rounds, and what is written down between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from flwr.app import ConfigRecord

from fed_unlearn.arrays import pack
from fed_unlearn.strategies.clients.bounds.faults import NO_ANSWER
from fed_unlearn.strategies.context import CallContext, Event, EventKind
from fed_unlearn.strategies.state import OpenTraining
from fed_unlearn.strategies.training.figures import TrainingFigures
from fed_unlearn.strategies.training.trainer import EvaluateFunction, Trainer

_MOST_TOLD = 5


@dataclass
class TrainingExperience:
    """Trains the rounds of an experience, one after another; a crash loses no round that was written down.

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
        The inner strategy's evaluation runs after every so many rounds, and after the last.
    evaluate_fn : callable or None
        Centralised evaluation, as in Flower.
    """

    context: CallContext
    trainer: Trainer
    training: OpenTraining
    evaluate_config: ConfigRecord
    evaluate_every: int
    evaluate_fn: EvaluateFunction | None
    _written: float = field(default_factory=time.monotonic, init=False)
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
        self.training.done, self.training.arrays, self.training.longest = 0, None, 0.0
        self.training.figures = TrainingFigures()
        self._failed.clear()

    def round(self) -> None:
        """Train the next round, and write it down where the last time was long ago."""
        started, context, training = time.perf_counter(), self.context, self.training
        context.grid.take_traffic()
        number = training.done + 1
        evaluates = number == training.rounds or number % self.evaluate_every == 0
        outcome = self.trainer.train(
            training.arrays if training.arrays is not None else context.served.arrays,
            training.first + number,
            training.config,
            evaluate_config=self._evaluate_config() if evaluates else None,
            usual_norm=context.served.update_norm,
            longest=training.longest,
            measure_norms=True,
        )
        training.arrays, training.done, training.longest = outcome.arrays, number, outcome.longest
        context.served.train_config = outcome.config
        if outcome.update_norms:
            context.served.update_norm = median(outcome.update_norms)
        central = self.evaluate_fn(number, pack(outcome.arrays)) if self.evaluate_fn is not None else None
        figures = training.figures
        figures.note_metrics(number, outcome.train_metrics, outcome.evaluate_metrics, central)
        figures.note_clients(number, outcome.trained, outcome.failed)
        if outcome.failed != self._failed:
            self._failed = dict(outcome.failed)
            self.tell("clients-failed", f"round {number}: {_told(outcome.failed)}")
        figures.seconds += time.perf_counter() - started
        figures.traffic.add(context.grid.take_traffic())
        figures.put_into(context.result)
        self.tell("training-round", f"round {number} of {training.rounds}")
        if time.monotonic() - self._written >= context.plan.durable_seconds:
            self.save()
            context.state.purge()
            self._written = time.monotonic()

    def resume(self) -> None:
        """Show in the result what an earlier process has done of the experience."""
        if self.training.done:
            self.training.figures.put_into(self.context.result)

    def save(self, *, finished: bool = False) -> None:
        """Write down how far the experience has come, and whether it has come to its end."""
        self.context.state.save_training(self.training, self.context.served)
        if finished:
            self.context.state.finish_training(self.training)

    def tell(self, kind: EventKind, text: str) -> None:
        """Say what happens, to the observer."""
        self.context.notify(Event(kind, text, step=self.training.done, steps=self.training.rounds))

    def _evaluate_config(self) -> ConfigRecord:
        """The user's configuration, and the classes that are forgotten."""
        forgotten = sorted(self.context.ledger.forgotten_classes())
        return ConfigRecord({**self.evaluate_config, "forgotten-classes": forgotten})


def _told(failed: Mapping[str, str]) -> str:
    """Which clients did not train, and why."""
    if not failed:
        return "all clients that were asked trained"
    told = "; ".join(f"client {client} did not train: {reason}" for client, reason in list(failed.items())[:_MOST_TOLD])
    return f"{told}; and {len(failed) - _MOST_TOLD} more" if len(failed) > _MOST_TOLD else told
