"""The training of a run in ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """How the clients of one training round fared.

    Attributes
    ----------
    round : int
        Number of the round, counted from 1 over all training of the run.
    trained : int
        Number of clients whose model was used.
    failed : mapping of str to str
        Why no model of a client was used, by client: the kind of the fault and names of what is missing, without data.
    """

    round: int
    trained: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The training of a run: all of its rounds, without unlearning and repair.

    Attributes
    ----------
    rounds : int
    seconds : float
    test_accuracy : float or None
        Accuracy on all test samples after the last training before the first request.
    forward_passes, backward_passes : int
        Samples that passed through the models of all clients.
    clients : sequence of RoundResult
        How the clients of each round fared.
    trained_clients : sequence of str
        Clients whose model was used in at least one round.
    never_trained : mapping of str to str
        The other clients that were to train, each with the reason of its last round.
    """

    rounds: int = 0
    seconds: float = 0.0
    test_accuracy: float | None = None
    forward_passes: int = 0
    backward_passes: int = 0
    clients: Sequence[RoundResult] = ()
    trained_clients: Sequence[str] = ()
    never_trained: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TrainingResult:
        """Read what :func:`dataclasses.asdict` and :mod:`json` wrote."""
        rounds = tuple(RoundResult(**item) for item in body.get("clients", ()))
        return cls(**{**body, "clients": rounds, "trained_clients": tuple(body.get("trained_clients", ()))})
