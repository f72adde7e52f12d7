"""What the rounds of a training experience gave and cost: written down with the model that they led to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from flwr.app import MetricRecord

from fed_unlearn.strategies.clients.messages.exchange import Traffic
from fed_unlearn.strategies.outcomes import UnlearningResult

Metrics = Mapping[str, int | float | list[int] | list[float]]
"""The values of a MetricRecord by name."""

_KINDS = ("train_metrics", "evaluate_metrics", "central_metrics")
_IN_RESULT = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")


@dataclass(frozen=True, kw_only=True)
class RoundClients:
    """How the clients of one training round fared.

    Attributes
    ----------
    trained : int
        Number of clients whose model was used.
    failed : mapping of str to str
        Why no model of a client was used, by client: the kind of the fault, and names of what is missing.
    """

    trained: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class TrainingFigures:
    """What the rounds of one training experience gave and cost.

    It is written down together with the model. A round that is repeated after a crash counts once.

    Attributes
    ----------
    seconds : float
        Wall time of the rounds.
    traffic : Traffic
        Messages, bytes and sample passes of the rounds.
    train_metrics, evaluate_metrics, central_metrics : dict of int to mapping
        What the inner strategy aggregated of training and of evaluation, and what the server's own evaluation gave; by
        round of the experience, counted from 1.
    clients : dict of int to RoundClients
        How many clients trained and why others failed, by round of the experience.
    trained_clients : list of str
        Clients whose model was used in at least one round, sorted.
    """

    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    train_metrics: dict[int, Metrics] = field(default_factory=dict)
    evaluate_metrics: dict[int, Metrics] = field(default_factory=dict)
    central_metrics: dict[int, Metrics] = field(default_factory=dict)
    clients: dict[int, RoundClients] = field(default_factory=dict)
    trained_clients: list[str] = field(default_factory=list)

    def note_clients(self, number: int, trained: Collection[str], failed: Mapping[str, str]) -> None:
        """Record how the clients of a round fared."""
        self.clients[number] = RoundClients(trained=len(trained), failed=dict(sorted(failed.items())))
        if not set(trained) <= set(self.trained_clients):
            self.trained_clients = sorted({*self.trained_clients, *trained})

    def note_metrics(
        self,
        number: int,
        train: MetricRecord | None,
        evaluate: MetricRecord | None,
        central: MetricRecord | None,
    ) -> None:
        """Record what was measured in a round; None where nothing was."""
        for kind, record in zip(_KINDS, (train, evaluate, central), strict=True):
            if record is not None:
                getattr(self, kind)[number] = cast(Metrics, dict(record))

    def put_into(self, result: UnlearningResult) -> None:
        """Show these figures in the result of a call, in place of those that it has of this experience."""
        result.training_seconds = self.seconds
        result.training_traffic = replace(self.traffic)
        for kind, shown in zip(_KINDS, _IN_RESULT, strict=True):
            records = {number: MetricRecord(dict(values)) for number, values in getattr(self, kind).items()}
            getattr(result, shown).update(records)
